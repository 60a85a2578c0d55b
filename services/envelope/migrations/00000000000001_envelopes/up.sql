-- Accounts, envelopes and their feed. The account leads every key; ids and times are given by the service.

CREATE TABLE account (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE api_key (
    account_id uuid NOT NULL REFERENCES account (id),
    id uuid NOT NULL,
    livemode boolean NOT NULL,
    hash bytea NOT NULL CHECK (length(hash) = 32),
    created_at timestamptz NOT NULL,
    revoked_at timestamptz,
    PRIMARY KEY (account_id, id),
    UNIQUE (account_id, hash)
);

CREATE TABLE upload (
    account_id uuid NOT NULL REFERENCES account (id),
    id uuid NOT NULL,
    livemode boolean NOT NULL,
    name text NOT NULL,
    sha256 bytea NOT NULL CHECK (length(sha256) = 32),
    size_bytes bigint NOT NULL CHECK (size_bytes > 0),
    page_count integer NOT NULL CHECK (page_count > 0),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, id)
);

CREATE TABLE envelope (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    livemode boolean NOT NULL,
    revision bigint NOT NULL CHECK (revision > 0),
    sequence bigint NOT NULL CHECK (sequence > 0),
    chain bytea NOT NULL CHECK (length(chain) = 32),
    last_event_at timestamptz NOT NULL,
    subject text NOT NULL,
    message text NOT NULL,
    routing smallint NOT NULL CHECK (routing IN (1, 2)),
    created_at timestamptz NOT NULL,
    dispatched_at timestamptz,
    sent_at timestamptz,
    first_signed_at timestamptz,
    all_acted_at timestamptz,
    completed_at timestamptz,
    declined_at timestamptz,
    voided_at timestamptz,
    expired_at timestamptz,
    expires_at timestamptz NOT NULL,
    void_reason text,
    void_reason_salt bytea,
    requires_replacement boolean NOT NULL,
    -- The rule of domain/status.rs; a test holds the two equal.
    status smallint NOT NULL GENERATED ALWAYS AS (
        CASE
            WHEN completed_at IS NOT NULL THEN 5
            WHEN declined_at IS NOT NULL THEN 6
            WHEN voided_at IS NOT NULL THEN 7
            WHEN expired_at IS NOT NULL THEN 8
            WHEN first_signed_at IS NOT NULL THEN 4
            WHEN sent_at IS NOT NULL THEN 3
            WHEN dispatched_at IS NOT NULL THEN 2
            ELSE 1
        END
    ) STORED,
    PRIMARY KEY (account_id, id),
    CONSTRAINT one_terminal_fact CHECK (num_nonnulls(completed_at, declined_at, voided_at, expired_at) <= 1),
    CONSTRAINT facts_in_order CHECK (
        (sent_at IS NULL OR dispatched_at IS NOT NULL)
        AND (first_signed_at IS NULL OR sent_at IS NOT NULL)
        AND (all_acted_at IS NULL OR sent_at IS NOT NULL)
        AND (completed_at IS NULL OR all_acted_at IS NOT NULL)
        AND (all_acted_at IS NULL OR num_nonnulls(declined_at, voided_at, expired_at) = 0)
        AND (dispatched_at IS NOT NULL OR num_nonnulls(declined_at, voided_at, expired_at) = 0)
    )
) WITH (fillfactor = 85);

-- Pages of a list, newest first: ids are UUIDv7 and grow with time.
CREATE INDEX envelope_page ON envelope (account_id, livemode, id);
CREATE INDEX envelope_status_page ON envelope (account_id, livemode, status, id);
-- What the expiry sweeper looks for.
CREATE INDEX envelope_deadline ON envelope (expires_at)
    WHERE dispatched_at IS NOT NULL AND all_acted_at IS NULL
        AND declined_at IS NULL AND voided_at IS NULL AND expired_at IS NULL;

-- What has ended stays as it ended, also against SQL by hand.
CREATE FUNCTION refuse_change_of_terminal_facts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'envelope % is terminal: its facts cannot be changed', OLD.id USING ERRCODE = 'check_violation';
END $$;

CREATE TRIGGER terminal_facts BEFORE UPDATE ON envelope FOR EACH ROW
    WHEN (
        num_nonnulls(OLD.completed_at, OLD.declined_at, OLD.voided_at, OLD.expired_at) > 0
        AND (OLD.created_at, OLD.dispatched_at, OLD.sent_at, OLD.first_signed_at, OLD.all_acted_at, OLD.completed_at,
             OLD.declined_at, OLD.voided_at, OLD.expired_at, OLD.expires_at)
            IS DISTINCT FROM
            (NEW.created_at, NEW.dispatched_at, NEW.sent_at, NEW.first_signed_at, NEW.all_acted_at, NEW.completed_at,
             NEW.declined_at, NEW.voided_at, NEW.expired_at, NEW.expires_at)
    )
    EXECUTE FUNCTION refuse_change_of_terminal_facts();

CREATE TABLE recipient (
    account_id uuid NOT NULL,
    envelope_id uuid NOT NULL,
    id uuid NOT NULL,
    position smallint NOT NULL,
    name text NOT NULL,
    email text NOT NULL,
    role smallint NOT NULL CHECK (role = 1),
    label text NOT NULL,
    group_number smallint NOT NULL CHECK (group_number > 0),
    status smallint NOT NULL CHECK (status BETWEEN 1 AND 7),
    released_at timestamptz,
    signed_at timestamptz,
    signature_salt bytea,
    effective boolean,
    declined_at timestamptz,
    decline_channel smallint CHECK (decline_channel IN (1, 2)),
    decline_reason text,
    decline_reason_salt bytea,
    decline_note text,
    decline_note_salt bytea,
    ended_at timestamptz,
    token_generation smallint NOT NULL,
    token_salt bytea NOT NULL CHECK (length(token_salt) = 16),
    token_hash bytea NOT NULL CHECK (length(token_hash) = 32),
    PRIMARY KEY (account_id, envelope_id, id),
    FOREIGN KEY (account_id, envelope_id) REFERENCES envelope (account_id, id),
    -- The status carries its facts, and no others.
    CONSTRAINT facts_of_status CHECK (
        (status <> 1 OR released_at IS NULL)
        AND (status NOT IN (2, 3) OR released_at IS NOT NULL)
        AND (status = 3) = (signed_at IS NOT NULL)
        AND (status = 3) = (effective IS NOT NULL)
        AND (status = 3) = (signature_salt IS NOT NULL)
        AND (status = 4) = (declined_at IS NOT NULL)
        AND (status = 4) = (decline_channel IS NOT NULL)
        AND (status >= 5) = (ended_at IS NOT NULL)
    )
) WITH (fillfactor = 85);

CREATE TABLE document (
    account_id uuid NOT NULL,
    envelope_id uuid NOT NULL,
    id uuid NOT NULL,
    position smallint NOT NULL,
    name text NOT NULL,
    sha256 bytea NOT NULL CHECK (length(sha256) = 32),
    size_bytes bigint NOT NULL CHECK (size_bytes > 0),
    page_count integer NOT NULL CHECK (page_count > 0),
    PRIMARY KEY (account_id, envelope_id, id),
    FOREIGN KEY (account_id, envelope_id) REFERENCES envelope (account_id, id)
);

CREATE TABLE artifact (
    account_id uuid NOT NULL,
    envelope_id uuid NOT NULL,
    document_id uuid NOT NULL,
    version smallint NOT NULL CHECK (version IN (2, 3)),
    sha256 bytea NOT NULL CHECK (length(sha256) = 32),
    size_bytes bigint NOT NULL CHECK (size_bytes > 0),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, envelope_id, document_id, version),
    FOREIGN KEY (account_id, envelope_id, document_id) REFERENCES document (account_id, envelope_id, id)
);

CREATE TABLE field (
    account_id uuid NOT NULL,
    envelope_id uuid NOT NULL,
    id uuid NOT NULL,
    position smallint NOT NULL,
    kind smallint NOT NULL CHECK (kind BETWEEN 1 AND 7),
    recipient_id uuid NOT NULL,
    document_id uuid NOT NULL,
    page integer NOT NULL CHECK (page > 0),
    x_percent double precision NOT NULL,
    y_percent double precision NOT NULL,
    width_percent double precision NOT NULL,
    height_percent double precision NOT NULL,
    required boolean NOT NULL,
    name text NOT NULL,
    text_value text,
    checked_value boolean,
    PRIMARY KEY (account_id, envelope_id, id),
    FOREIGN KEY (account_id, envelope_id, recipient_id) REFERENCES recipient (account_id, envelope_id, id),
    FOREIGN KEY (account_id, envelope_id, document_id) REFERENCES document (account_id, envelope_id, id),
    CONSTRAINT on_the_page CHECK (
        x_percent >= 0 AND y_percent >= 0 AND width_percent > 0 AND height_percent > 0
        AND x_percent + width_percent <= 100.000001 AND y_percent + height_percent <= 100.000001
    )
) WITH (fillfactor = 85);

-- The history: each record is hashed into the chain and never changes.
CREATE TABLE event (
    account_id uuid NOT NULL,
    envelope_id uuid NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    id uuid NOT NULL,
    kind smallint NOT NULL,
    recipient_id uuid,
    occurred_at timestamptz NOT NULL,
    record bytea NOT NULL,
    prev_hash bytea NOT NULL CHECK (length(prev_hash) = 32),
    hash bytea NOT NULL CHECK (length(hash) = 32),
    traceparent text,
    PRIMARY KEY (account_id, envelope_id, sequence),
    FOREIGN KEY (account_id, envelope_id) REFERENCES envelope (account_id, id)
);

CREATE FUNCTION refuse_change_of_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the history is append-only' USING ERRCODE = 'check_violation';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON event FOR EACH ROW EXECUTE FUNCTION refuse_change_of_history();
CREATE TRIGGER append_only_as_a_whole BEFORE TRUNCATE ON event EXECUTE FUNCTION refuse_change_of_history();

-- Where events wait, from the transaction that made them until the sequencer gives them a position in the feed.
CREATE TABLE outbox (
    part smallint NOT NULL,
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    account_id uuid NOT NULL,
    livemode boolean NOT NULL,
    envelope_id uuid NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (part, id)
);
ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE feed_head (
    part smallint PRIMARY KEY,
    last_position bigint NOT NULL,
    floor_position bigint NOT NULL
) WITH (fillfactor = 50);
INSERT INTO feed_head SELECT part, 0, 0 FROM generate_series(0, 15) AS part;

-- Changes when the feed is restored from a backup: positions handed out since would come again for other events.
CREATE TABLE feed_incarnation (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id uuid NOT NULL
);
INSERT INTO feed_incarnation (id) VALUES (gen_random_uuid());

CREATE TABLE feed (
    part smallint NOT NULL,
    position bigint NOT NULL,
    account_id uuid NOT NULL,
    livemode boolean NOT NULL,
    envelope_id uuid NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (part, position)
);

-- Artefacts that are still to be made.
CREATE TABLE artifact_job (
    account_id uuid NOT NULL,
    envelope_id uuid NOT NULL,
    version smallint NOT NULL CHECK (version IN (2, 3)),
    due_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, envelope_id, version),
    FOREIGN KEY (account_id, envelope_id) REFERENCES envelope (account_id, id)
);
CREATE INDEX artifact_job_due ON artifact_job (due_at);
