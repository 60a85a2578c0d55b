-- Where the stream was left, endpoints, deliveries and mails. The account leads every key; ids and times are given by the
-- service. No name, address or secret of anybody stands here.

CREATE TABLE feed_cursor (
    consumer text PRIMARY KEY,
    resume_token text,
    -- Grows with every advance, so that a consumer that fell behind another notices.
    revision bigint NOT NULL,
    advanced_at timestamptz,
    -- The token that the stream would not resume from any more, and when that was found out.
    lost_from text,
    lost_at timestamptz
);

INSERT INTO feed_cursor (consumer, revision) VALUES ('notifier', 0);

CREATE TABLE endpoint (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    livemode boolean NOT NULL,
    -- Bounds how many there are.
    slot smallint NOT NULL CHECK (slot BETWEEN 1 AND 20),
    url text NOT NULL CHECK (length(url) <= 2048),
    -- Which of its secrets it signs with; the secret itself is derived from the master key.
    generation integer NOT NULL CHECK (generation > 0),
    created_at timestamptz NOT NULL,
    -- It answered 410: nothing is sent any more.
    disabled_at timestamptz,
    deleted_at timestamptz,
    PRIMARY KEY (account_id, id)
);

CREATE UNIQUE INDEX endpoint_slot ON endpoint (account_id, livemode, slot) WHERE deleted_at IS NULL;

CREATE TABLE delivery (
    account_id uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    event_id uuid NOT NULL,
    envelope_id uuid NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    -- What is sent, the same bytes at every attempt.
    body bytea NOT NULL,
    traceparent text,
    -- 1 pending, 2 delivered, 3 dead, 4 cancelled.
    state smallint NOT NULL CHECK (state BETWEEN 1 AND 4),
    attempts integer NOT NULL CHECK (attempts >= 0),
    planned_at timestamptz NOT NULL,
    -- When the next attempt is due; while one is being made: when it counts as lost.
    due_at timestamptz NOT NULL,
    -- Grows with every claim; who holds an older one records nothing.
    lease_epoch integer NOT NULL CHECK (lease_epoch >= 0),
    finished_at timestamptz,
    PRIMARY KEY (account_id, endpoint_id, event_id),
    CONSTRAINT finished CHECK ((state = 1) = (finished_at IS NULL))
) WITH (fillfactor = 85);

CREATE INDEX delivery_due ON delivery (due_at, sequence) WHERE state = 1;
CREATE INDEX delivery_order ON delivery (account_id, endpoint_id, envelope_id, sequence) WHERE state = 1;

-- Append-only.
CREATE TABLE attempt (
    account_id uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    event_id uuid NOT NULL,
    lease_epoch integer NOT NULL,
    started_at timestamptz NOT NULL,
    duration_ms integer NOT NULL,
    -- What the receiver answered, or else what went wrong.
    status smallint,
    failure text,
    response bytea CHECK (length(response) <= 1024),
    PRIMARY KEY (account_id, endpoint_id, event_id, lease_epoch),
    CONSTRAINT answered_or_failed CHECK ((status IS NULL) <> (failure IS NULL))
);

CREATE TABLE mail (
    account_id uuid NOT NULL,
    event_id uuid NOT NULL,
    recipient_id uuid NOT NULL,
    -- 1 invitation, 2 fell_through, 3 completed.
    kind smallint NOT NULL CHECK (kind BETWEEN 1 AND 3),
    envelope_id uuid NOT NULL,
    livemode boolean NOT NULL,
    traceparent text,
    -- 1 pending, 2 sent, 3 suppressed, 4 failed.
    state smallint NOT NULL CHECK (state BETWEEN 1 AND 4),
    -- Why it was suppressed or what went wrong last: one of a few words.
    reason text,
    attempts integer NOT NULL CHECK (attempts >= 0),
    planned_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    lease_epoch integer NOT NULL CHECK (lease_epoch >= 0),
    finished_at timestamptz,
    PRIMARY KEY (account_id, event_id, recipient_id, kind),
    CONSTRAINT finished CHECK ((state = 1) = (finished_at IS NULL))
) WITH (fillfactor = 85);

CREATE INDEX mail_due ON mail (due_at) WHERE state = 1;
