-- What the notifier knows: where it stands in the feed, whom to tell, and what is still to be told.
-- Names, addresses, reasons and tokens are not kept here: they are asked for when they are needed.

-- One row for each partition of the feed: where it was left, and which process follows it. Nothing moves the place but the
-- owner under the present epoch: whoever was taken for dead and wakes up again keeps nothing.
CREATE TABLE feed_partition (
    partition smallint PRIMARY KEY CHECK (partition BETWEEN 0 AND 15),
    resume_token text NOT NULL,
    -- Set when the feed could not be resumed where it was left: an operator's matter.
    lost_from text,
    owner uuid,
    lease_until timestamptz,
    -- Grows with every owner.
    epoch bigint NOT NULL,
    CHECK ((owner IS NULL) = (lease_until IS NULL))
);
INSERT INTO feed_partition (partition, resume_token, epoch) SELECT partition, '', 0 FROM generate_series(0, 15) AS partition;

-- The processes that share the partitions.
CREATE TABLE follower (
    id uuid PRIMARY KEY,
    seen_until timestamptz NOT NULL
);

-- The master keys under which new secrets were made, by their fingerprints, and since when. The secret of an envelope's own address
-- is made under the one of the envelope's time, whenever it is asked for.
CREATE TABLE master_key (
    fingerprint bigint PRIMARY KEY,
    since timestamptz NOT NULL
);

CREATE TABLE endpoint (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    livemode boolean NOT NULL,
    url text NOT NULL,
    description text NOT NULL,
    -- The types of events that it gets, as the contract numbers them; empty: all.
    types smallint[] NOT NULL,
    -- Headers to be sent along: names in the open, values encrypted under a key outside the database, whose fingerprint is the
    -- beginning.
    header_names text[] NOT NULL,
    headers_sealed bytea,
    -- The envelope whose own address this is.
    envelope_id uuid,
    -- The secret is derived from the master key with this fingerprint, the ids and this number; it is not stored. Until the given
    -- time the generation before signs too, which may have been derived from another.
    generation smallint NOT NULL,
    generation_key bigint NOT NULL,
    previous_key bigint,
    previous_until timestamptz,
    created_at timestamptz NOT NULL,
    challenged_at timestamptz,
    -- Nothing is planned for it before.
    verified_at timestamptz,
    paused_at timestamptz,
    disabled_at timestamptz,
    -- 1 it answered that it is gone, 2 it failed for days
    disabled_reason smallint CHECK (disabled_reason BETWEEN 1 AND 2),
    consecutive_failures integer NOT NULL DEFAULT 0,
    -- The first of them.
    first_failed_at timestamptz,
    last_success_at timestamptz,
    last_failure_at timestamptz,
    -- Nothing is posted to it before: it asked for that, or it fails.
    resting_until timestamptz,
    PRIMARY KEY (account_id, id),
    CHECK ((generation = 1) = (previous_key IS NULL)),
    CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL)),
    CHECK ((consecutive_failures = 0) = (first_failed_at IS NULL))
) WITH (fillfactor = 85);
CREATE INDEX endpoint_of_account ON endpoint (account_id, id) WHERE envelope_id IS NULL;
CREATE INDEX endpoint_of_envelope ON endpoint (account_id, envelope_id) WHERE envelope_id IS NOT NULL;
CREATE INDEX endpoint_of_envelope_age ON endpoint (created_at) WHERE envelope_id IS NOT NULL;

-- Owners who have to hear that an endpoint was switched off.
CREATE TABLE endpoint_notice (
    account_id uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    livemode boolean NOT NULL,
    disabled_at timestamptz NOT NULL,
    -- As endpoint.disabled_reason.
    reason smallint NOT NULL CHECK (reason BETWEEN 1 AND 2),
    mailed_at timestamptz,
    PRIMARY KEY (account_id, endpoint_id, disabled_at)
);
CREATE INDEX endpoint_notice_due ON endpoint_notice (disabled_at) WHERE mailed_at IS NULL;

CREATE TABLE delivery (
    account_id uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    event_id uuid NOT NULL,
    livemode boolean NOT NULL,
    -- The event's type, as the contract numbers it.
    type smallint NOT NULL,
    -- None for events of endpoints.
    envelope_id uuid,
    -- To the own address of an envelope, of which there may be as many as envelopes.
    own boolean NOT NULL DEFAULT false,
    sequence bigint NOT NULL,
    -- The W3C Trace Context of what happened: attempts belong to its trace.
    traceparent text,
    -- The bytes of every attempt.
    body bytea NOT NULL,
    -- 1 pending, 2 delivered, 3 dead (all attempts failed), 4 cancelled
    state smallint NOT NULL CHECK (state BETWEEN 1 AND 4),
    -- Why it was cancelled, as the contract words it.
    cause text CHECK (cause IS NULL OR state = 4),
    -- All attempts, and those since it was last put into the queue: the schedule's place.
    attempts integer NOT NULL,
    tries integer NOT NULL,
    -- The first of these.
    first_tried_at timestamptz,
    -- When anybody may take it: while it is being tried, when the lease runs out.
    next_at timestamptz NOT NULL,
    lease_until timestamptz,
    lease_epoch integer NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, endpoint_id, event_id)
) WITH (fillfactor = 85);
-- By these a claim walks from endpoint to endpoint, and for the own addresses of envelopes from account to account, and sees
-- only what is due of each.
CREATE INDEX delivery_due ON delivery (own, account_id, endpoint_id, next_at) WHERE state = 1;
CREATE INDEX delivery_due_own ON delivery (account_id, next_at) WHERE state = 1 AND own;
CREATE INDEX delivery_leased ON delivery (account_id, endpoint_id, lease_until) WHERE state = 1 AND lease_until IS NOT NULL;
CREATE INDEX delivery_order ON delivery (account_id, endpoint_id, envelope_id, sequence) WHERE state = 1;
-- Lists say `attempts >= 0`, and nobody else does: what is done by key never comes by these, however empty the table was when
-- its plan was made.
CREATE INDEX delivery_list ON delivery (account_id, livemode, created_at, event_id, endpoint_id) WHERE attempts >= 0;
CREATE INDEX delivery_list_endpoint ON delivery (account_id, endpoint_id, created_at) WHERE attempts >= 0;
CREATE INDEX delivery_list_envelope ON delivery (account_id, envelope_id, created_at) WHERE attempts >= 0;
CREATE INDEX delivery_list_failed ON delivery (account_id, livemode, created_at) WHERE state IN (3, 4);
CREATE INDEX delivery_age ON delivery (created_at) WHERE state <> 1;
CREATE INDEX delivery_age_pending ON delivery (created_at) WHERE state = 1;

-- Append-only.
CREATE TABLE attempt (
    account_id uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    event_id uuid NOT NULL,
    number integer NOT NULL,
    at timestamptz NOT NULL,
    duration_ms integer NOT NULL,
    -- The answer's HTTP status, or none if there was no answer.
    status_code smallint,
    -- Why there was none.
    failure text,
    -- The beginning of the answer's body.
    answer text NOT NULL CHECK (octet_length(answer) <= 4096),
    PRIMARY KEY (account_id, endpoint_id, event_id, number)
);

CREATE TABLE mail (
    account_id uuid NOT NULL,
    -- What it is about; of a mail about an endpoint an id made of the endpoint's and the time.
    event_id uuid NOT NULL,
    -- 1 a recipient, 2 a watcher, 3 whom the account names for its endpoints: then the id is the endpoint's
    addressee_kind smallint NOT NULL CHECK (addressee_kind BETWEEN 1 AND 3),
    addressee_id uuid NOT NULL,
    -- 1 invitation, 2 fell through, 3 completed, 4 copy, 5 expiry warning, 6 reminder, 7 endpoint disabled
    kind smallint NOT NULL CHECK (kind BETWEEN 1 AND 7),
    envelope_id uuid,
    livemode boolean NOT NULL,
    -- As delivery.traceparent.
    traceparent text,
    -- When the event happened: an invitation is not sent once there is a newer one.
    occurred_at timestamptz NOT NULL,
    -- 1 pending, 2 sent, 3 suppressed (no reason to send it any more), 4 dead, 5 bounced and to be reported, 6 bounced and
    -- reported, or there is nobody to report it to
    state smallint NOT NULL CHECK (state BETWEEN 1 AND 6),
    attempts integer NOT NULL,
    -- When it is due; of what is settled, when that was.
    next_at timestamptz NOT NULL,
    lease_until timestamptz,
    lease_epoch integer NOT NULL,
    -- A server has said that it takes no mail so large: it goes without its documents.
    is_too_large boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    -- Until it is reported: a hash of the address that it bounced from, as the envelope service asks for.
    bounced_sha256 bytea CHECK (length(bounced_sha256) = 32),
    -- For the quotas: a MAC of account and address, and when it last left or tried to.
    address bytea CHECK (length(address) = 32),
    posted_at timestamptz,
    -- Waits for room in the account's hour: later ones let it go first.
    in_line boolean NOT NULL DEFAULT false,
    PRIMARY KEY (account_id, event_id, addressee_kind, addressee_id, kind),
    CHECK ((envelope_id IS NULL) = (kind = 7)),
    CHECK ((addressee_kind = 3) = (kind = 7)),
    CHECK ((state = 5) = (bounced_sha256 IS NOT NULL)),
    CHECK ((address IS NULL) = (posted_at IS NULL))
) WITH (fillfactor = 85);
CREATE INDEX mail_due ON mail (next_at) WHERE state IN (1, 5);
CREATE INDEX mail_end ON mail (next_at) WHERE state NOT IN (1, 5);
CREATE INDEX mail_posted ON mail (account_id, posted_at) WHERE posted_at IS NOT NULL;
CREATE INDEX mail_posted_to ON mail (account_id, address, posted_at) WHERE posted_at IS NOT NULL;
CREATE INDEX mail_in_line ON mail (account_id, created_at) WHERE state = 1 AND in_line;

-- When the account's hour has room for a mail, or nothing if it has: before the mail costs any question. Those that were
-- planned earlier and wait for room too go first: each counts as if it had left. Takes no room and no lock: take_mail_quota
-- does.
CREATE FUNCTION await_mail_quota(
    account uuid, event uuid, to_kind smallint, to_id uuid, mail_kind smallint, epoch integer,
    now timestamptz, account_max integer
) RETURNS timestamptz LANGUAGE plpgsql AS $$
DECLARE
    it mail;
    ahead bigint;
    room timestamptz;
BEGIN
    SELECT * INTO it FROM mail
    WHERE account_id = account AND event_id = event AND addressee_kind = to_kind AND addressee_id = to_id
        AND kind = mail_kind AND lease_epoch = epoch;
    -- It is counted already.
    IF it.posted_at > now - interval '1 hour' THEN
        RETURN NULL;
    END IF;
    SELECT count(*) INTO ahead FROM (
        SELECT FROM mail WHERE account_id = account AND state = 1 AND in_line
            AND (created_at, event_id, addressee_kind, addressee_id, kind)
                < (it.created_at, event, to_kind, to_id, mail_kind)
        LIMIT account_max
    ) AS earlier;
    IF ahead >= account_max THEN
        room := now;
    ELSE
        SELECT posted_at INTO room FROM mail WHERE account_id = account AND posted_at > now - interval '1 hour'
        ORDER BY posted_at DESC OFFSET account_max - 1 - ahead LIMIT 1;
    END IF;
    UPDATE mail SET in_line = room IS NOT NULL
    WHERE account_id = account AND event_id = event AND addressee_kind = to_kind AND addressee_id = to_id
        AND kind = mail_kind AND lease_epoch = epoch AND in_line <> (room IS NOT NULL);
    RETURN room + interval '1 hour';
END $$;

-- Counts a mail among those of the last hour, or says when there is room for it. One mail of an account at a time, so that
-- several processes together keep to the quotas. A function, so that the looks at the table are later than the lock. Counts
-- nothing, and says so, where the claim is another's by now or ends before `until`. The address is given as it is known under each
-- master key; it is kept as the first, and counted as any: of each no more than matter.
CREATE FUNCTION take_mail_quota(
    account uuid, event uuid, to_kind smallint, to_id uuid, mail_kind smallint, epoch integer,
    to_addresses bytea[], now timestamptz, until timestamptz, address_max integer, account_max integer,
    OUT is_held boolean, OUT at timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    by_address timestamptz;
    by_account timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(1, hashtext(account::text));
    PERFORM FROM mail
    WHERE account_id = account AND event_id = event AND addressee_kind = to_kind AND addressee_id = to_id
        AND kind = mail_kind AND lease_epoch = epoch AND lease_until >= until
    FOR UPDATE;
    is_held := FOUND;
    IF NOT is_held THEN
        RETURN;
    END IF;
    SELECT posted.posted_at INTO by_address FROM unnest(to_addresses) AS known(address) CROSS JOIN LATERAL (
        SELECT mail.posted_at FROM mail
        WHERE mail.account_id = account AND mail.address = known.address AND mail.posted_at > now - interval '1 hour'
            AND (event_id, addressee_kind, addressee_id, kind) <> (event, to_kind, to_id, mail_kind)
        ORDER BY mail.posted_at DESC LIMIT address_max
    ) AS posted
    ORDER BY posted.posted_at DESC OFFSET address_max - 1 LIMIT 1;
    SELECT posted_at INTO by_account FROM mail
    WHERE account_id = account AND posted_at > now - interval '1 hour'
        AND (event_id, addressee_kind, addressee_id, kind) <> (event, to_kind, to_id, mail_kind)
    ORDER BY posted_at DESC OFFSET account_max - 1 LIMIT 1;
    IF by_address IS NOT NULL OR by_account IS NOT NULL THEN
        at := greatest(by_address, by_account) + interval '1 hour';
        RETURN;
    END IF;
    UPDATE mail SET address = to_addresses[1], posted_at = now
    WHERE account_id = account AND event_id = event AND addressee_kind = to_kind AND addressee_id = to_id
        AND kind = mail_kind;
END $$;

-- Replies to requests with an idempotency key. Keys and requests are kept as MACs only.
CREATE TABLE idempotency (
    account_id uuid NOT NULL,
    id bytea NOT NULL CHECK (length(id) = 32),
    fingerprint bytea NOT NULL CHECK (length(fingerprint) = 32),
    reply bytea NOT NULL,
    -- No reply of this service tells of one envelope.
    about uuid,
    used_at timestamptz NOT NULL,
    kept_until timestamptz NOT NULL,
    CONSTRAINT idempotency_pkey PRIMARY KEY (account_id, id)
);
CREATE INDEX idempotency_end ON idempotency (kept_until);

-- Takes a key until the end of the transaction, or fails at once: nobody waits for a duplicate. A function, so that the look
-- at the table is later than the lock.
CREATE FUNCTION claim_idempotency_key(account uuid, key bytea, now timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(('x' || encode(substring(key FOR 8), 'hex'))::bit(64)::bigint) THEN
        RAISE EXCEPTION 'idempotency key in use';
    END IF;
    DELETE FROM idempotency WHERE account_id = account AND id = key AND kept_until <= now;
    IF EXISTS (SELECT FROM idempotency WHERE account_id = account AND id = key) THEN
        RAISE EXCEPTION 'idempotency key used';
    END IF;
END $$;
