-- Accounts, envelopes and their feed. The account leads every key; ids and times are given by the service.

CREATE TABLE account (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    created_at timestamptz NOT NULL,
    suspended_at timestamptz,
    revision bigint NOT NULL CHECK (revision > 0),
    -- store/settings.rs.
    settings jsonb NOT NULL
);

CREATE TABLE api_key (
    account_id uuid NOT NULL REFERENCES account (id),
    id uuid NOT NULL,
    livemode boolean NOT NULL,
    name text NOT NULL,
    permissions smallint[] NOT NULL,
    hash bytea NOT NULL CHECK (length(hash) = 32),
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    -- Of a key that was rotated: how long it goes on.
    overlap_until timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    replaced_by uuid,
    PRIMARY KEY (account_id, id),
    UNIQUE (account_id, hash)
);

-- The ledger. Each entry moves an amount between two accounts of the ledger: 1 issued, 2 available, 3 spent.
-- How many entries an account has: they are numbered under its lock, so that they stand in the order of their commits.
CREATE TABLE ledger_head (
    account_id uuid PRIMARY KEY REFERENCES account (id),
    entries bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE ledger_balance (
    account_id uuid NOT NULL,
    unit text NOT NULL,
    available bigint NOT NULL,
    PRIMARY KEY (account_id, unit),
    FOREIGN KEY (account_id) REFERENCES ledger_head (account_id),
    CONSTRAINT enough_to_spend CHECK (available >= 0)
) WITH (fillfactor = 50);

CREATE TABLE ledger_entry (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    -- 1 grant, 2 charge, 3 refund.
    kind smallint NOT NULL,
    debit smallint NOT NULL,
    credit smallint NOT NULL,
    unit text NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    balance_after bigint NOT NULL CHECK (balance_after >= 0),
    occurred_at timestamptz NOT NULL,
    envelope_id uuid,
    reference text NOT NULL,
    -- Of a refund: the charge. The key below holds the two together, so that nothing comes back that was not taken.
    charged bigint,
    charge_kind smallint GENERATED ALWAYS AS (CASE WHEN kind = 3 THEN 2 END) STORED,
    PRIMARY KEY (account_id, id),
    UNIQUE (account_id, sequence),
    FOREIGN KEY (account_id, unit) REFERENCES ledger_balance (account_id, unit),
    -- An envelope is charged once and refunded once.
    CONSTRAINT once_for_each_envelope UNIQUE (account_id, envelope_id, kind),
    UNIQUE (account_id, envelope_id, kind, unit, amount),
    FOREIGN KEY (account_id, envelope_id, charge_kind, unit, charged)
        REFERENCES ledger_entry (account_id, envelope_id, kind, unit, amount),
    CONSTRAINT what_each_kind_is CHECK (
        (kind, debit, credit) IN ((1, 1, 2), (2, 2, 3), (3, 3, 2))
        AND (kind = 1) = (envelope_id IS NULL)
        AND (kind = 3) = (charged IS NOT NULL)
        AND (charged IS NULL OR amount <= charged)
    )
);

-- People of the account who act as themselves. The token's key is not here.
CREATE TABLE account_user (
    account_id uuid NOT NULL REFERENCES account (id),
    id uuid NOT NULL,
    livemode boolean NOT NULL,
    email text NOT NULL,
    token_hash bytea NOT NULL CHECK (length(token_hash) = 32),
    created_at timestamptz NOT NULL,
    revoked_at timestamptz,
    PRIMARY KEY (account_id, id)
);

-- Replies to requests with an idempotency key. Keys and requests are kept as MACs only.
CREATE TABLE idempotency (
    account_id uuid NOT NULL,
    id bytea NOT NULL CHECK (length(id) = 32),
    fingerprint bytea NOT NULL CHECK (length(fingerprint) = 32),
    -- Empty once what it told of was purged.
    reply bytea,
    -- The envelope that the reply tells of.
    about uuid,
    used_at timestamptz NOT NULL,
    kept_until timestamptz NOT NULL,
    CONSTRAINT idempotency_pkey PRIMARY KEY (account_id, id)
);
CREATE INDEX idempotency_end ON idempotency (kept_until);
CREATE INDEX idempotency_about ON idempotency (account_id, about) WHERE about IS NOT NULL;

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

-- Bytes that may not be needed any more, by their hash. They are looked at when they are due, and not before: whoever reads
-- them just then has ended by then. From `condemned_at` on no row can name them; a while after `removed_at` they may be stored
-- again as if they had never been there.
CREATE TABLE blob_removal (
    sha256 bytea PRIMARY KEY CHECK (length(sha256) = 32),
    -- Of one that is claimed, the end of the claim.
    due_at timestamptz NOT NULL,
    condemned_at timestamptz,
    removed_at timestamptz,
    CONSTRAINT condemned_first CHECK (removed_at IS NULL OR condemned_at IS NOT NULL)
);
CREATE INDEX blob_removal_due ON blob_removal (due_at) WHERE removed_at IS NULL;
CREATE INDEX blob_removal_end ON blob_removal (removed_at) WHERE removed_at IS NOT NULL;

-- Nobody comes to need bytes, nor are they condemned, while somebody else has this lock.
CREATE FUNCTION blob_lock(digest bytea) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
    SELECT ('x' || encode(substring(digest FOR 4), 'hex'))::bit(32)::integer
$$;

-- Whoever names bytes needs them, until the transaction is over and others can see that. A function, so that the look at the
-- table is later than the lock.
CREATE FUNCTION claim_bytes(digest bytea) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF digest IS NULL OR digest = decode(repeat('00', 32), 'hex') THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock_shared(2, blob_lock(digest));
    IF EXISTS (SELECT FROM blob_removal WHERE sha256 = digest AND condemned_at IS NOT NULL) THEN
        RAISE EXCEPTION 'bytes condemned';
    END IF;
END $$;
CREATE FUNCTION claim_blob() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM claim_bytes(NEW.sha256);
    RETURN NEW;
END $$;
CREATE FUNCTION claim_blob_and_original() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM claim_bytes(NEW.sha256), claim_bytes(NEW.original_sha256);
    RETURN NEW;
END $$;
CREATE FUNCTION claim_blob_and_base() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM claim_bytes(NEW.sha256), claim_bytes(NEW.base_sha256);
    RETURN NEW;
END $$;
-- Of what a reading has got so far: store/ingest.rs.
CREATE FUNCTION got_bytes(got jsonb, part text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT decode(got -> part ->> 'sha256', 'hex')
$$;
CREATE FUNCTION claim_what_was_got() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM claim_bytes(got_bytes(NEW.got, 'original')), claim_bytes(got_bytes(NEW.got, 'pdf'));
    RETURN NEW;
END $$;

CREATE TABLE upload (
    account_id uuid NOT NULL REFERENCES account (id),
    id uuid NOT NULL,
    livemode boolean NOT NULL,
    name text NOT NULL,
    sha256 bytea NOT NULL CHECK (length(sha256) = 32),
    size_bytes bigint NOT NULL CHECK (size_bytes > 0),
    content_type smallint NOT NULL CHECK (content_type BETWEEN 1 AND 2),
    -- The PDF that is signed in its place, where it could not stay as it came.
    base_sha256 bytea CHECK (length(base_sha256) = 32),
    base_size_bytes bigint CHECK (base_size_bytes > 0),
    -- Of a PDF.
    page_count integer NOT NULL CHECK (page_count >= 0 AND (content_type <> 1 OR page_count > 0)),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, id)
);
CREATE INDEX upload_bytes ON upload (sha256);
CREATE INDEX upload_age ON upload (created_at);
CREATE INDEX upload_base ON upload (base_sha256) WHERE base_sha256 IS NOT NULL;
CREATE TRIGGER claimed_bytes BEFORE INSERT OR UPDATE OF sha256, base_sha256 ON upload FOR EACH ROW
    EXECUTE FUNCTION claim_blob_and_base();

CREATE TABLE envelope (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    livemode boolean NOT NULL,
    revision bigint NOT NULL CHECK (revision > 0),
    sequence bigint NOT NULL CHECK (sequence > 0),
    chain bytea NOT NULL CHECK (length(chain) = 32),
    last_event_at timestamptz NOT NULL,
    subject text NOT NULL,
    external_reference text NOT NULL,
    metadata jsonb NOT NULL,
    -- What else the sender sets and nobody searches for: store/terms.rs.
    terms jsonb NOT NULL,
    scheduled_send_at timestamptz,
    created_at timestamptz NOT NULL,
    dispatched_at timestamptz,
    sent_at timestamptz,
    first_signed_at timestamptz,
    all_acted_at timestamptz,
    completed_at timestamptz,
    declined_at timestamptz,
    voided_at timestamptz,
    expired_at timestamptz,
    discarded_at timestamptz,
    expires_at timestamptz NOT NULL,
    -- When those who owe an act are to be warned of the deadline; empty when they were or need not be.
    warning_at timestamptz,
    warned_at timestamptz,
    -- When the first reminder of any recipient is due; empty when none is.
    reminder_at timestamptz,
    cause smallint CHECK (cause BETWEEN 1 AND 6),
    ended_by uuid,
    void_reason text,
    requires_replacement boolean NOT NULL,
    replaces uuid,
    replaced_by uuid,
    -- What it has cost: store/settings.rs.
    charge jsonb,
    -- For how long its content is kept, when its purge is announced, and how long a draft lasts: all in days.
    retention_days integer NOT NULL CHECK (retention_days BETWEEN 1 AND 36500),
    purge_warning_days smallint NOT NULL,
    draft_days smallint NOT NULL,
    -- When the next of these is due; empty when none is.
    keeping_at timestamptz,
    purge_warned_at timestamptz,
    legal_hold_at timestamptz,
    -- From then on nothing shows its documents; their bytes go later.
    purged_at timestamptz,
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
        AND (discarded_at IS NULL OR dispatched_at IS NULL)
    ),
    CONSTRAINT purged_after_the_end CHECK (
        purged_at IS NULL
        OR num_nonnulls(completed_at, declined_at, voided_at, expired_at, discarded_at) > 0
    ),
    CONSTRAINT held_is_not_purged CHECK (purged_at IS NULL OR legal_hold_at IS NULL),
    CONSTRAINT cause_of_the_end CHECK ((cause IS NOT NULL) = (num_nonnulls(declined_at, voided_at, expired_at) > 0))
) WITH (fillfactor = 85);

-- Pages of a list, newest first: ids are UUIDv7 and grow with time.
CREATE INDEX envelope_page ON envelope (account_id, livemode, id);
CREATE INDEX envelope_status_page ON envelope (account_id, livemode, status, id);
CREATE INDEX envelope_owing_page ON envelope (account_id, livemode, id) WHERE requires_replacement;
-- An ended envelope has one replacement, thrown away drafts aside.
CREATE UNIQUE INDEX envelope_replaces ON envelope (account_id, replaces)
    WHERE replaces IS NOT NULL AND discarded_at IS NULL;
-- What the sweeper looks for. The first one also counts the open envelopes by their status, without a look at the rows: `account_id`
-- is there for the wall between accounts, which would look for it.
CREATE INDEX envelope_deadline ON envelope (expires_at) INCLUDE (account_id, status)
    WHERE dispatched_at IS NOT NULL AND all_acted_at IS NULL
        AND declined_at IS NULL AND voided_at IS NULL AND expired_at IS NULL;
CREATE INDEX envelope_schedule ON envelope (scheduled_send_at)
    WHERE dispatched_at IS NOT NULL AND sent_at IS NULL AND scheduled_send_at IS NOT NULL
        AND declined_at IS NULL AND voided_at IS NULL AND expired_at IS NULL;
CREATE INDEX envelope_warning ON envelope (warning_at)
    WHERE warning_at IS NOT NULL AND all_acted_at IS NULL
        AND declined_at IS NULL AND voided_at IS NULL AND expired_at IS NULL;

CREATE INDEX envelope_reminder ON envelope (reminder_at) WHERE reminder_at IS NOT NULL;
CREATE INDEX envelope_keeping ON envelope (keeping_at) WHERE keeping_at IS NOT NULL;
CREATE INDEX envelope_purged ON envelope (purged_at, id) WHERE purged_at IS NOT NULL AND discarded_at IS NULL;
CREATE INDEX envelope_discarded ON envelope (discarded_at) WHERE discarded_at IS NOT NULL AND purged_at IS NULL;

-- What has ended stays as it ended, also against SQL by hand.
CREATE FUNCTION refuse_change_of_terminal_facts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'envelope % is terminal: its facts cannot be changed', OLD.id USING ERRCODE = 'check_violation';
END $$;

CREATE TRIGGER terminal_facts BEFORE UPDATE ON envelope FOR EACH ROW
    WHEN (
        num_nonnulls(OLD.completed_at, OLD.declined_at, OLD.voided_at, OLD.expired_at, OLD.discarded_at) > 0
        AND (
            (OLD.account_id, OLD.id, OLD.livemode, OLD.created_at, OLD.dispatched_at, OLD.sent_at, OLD.first_signed_at, OLD.all_acted_at, OLD.completed_at,
             OLD.declined_at, OLD.voided_at, OLD.expired_at, OLD.discarded_at, OLD.expires_at, OLD.cause, OLD.ended_by, OLD.charge)
            IS DISTINCT FROM
            (NEW.account_id, NEW.id, NEW.livemode, NEW.created_at, NEW.dispatched_at, NEW.sent_at, NEW.first_signed_at, NEW.all_acted_at, NEW.completed_at,
             NEW.declined_at, NEW.voided_at, NEW.expired_at, NEW.discarded_at, NEW.expires_at, NEW.cause, NEW.ended_by, NEW.charge)
            -- What it said stays until it is purged, and a purge is for ever.
            OR (OLD.purged_at IS NULL AND (OLD.subject, OLD.terms) IS DISTINCT FROM (NEW.subject, NEW.terms))
            OR (OLD.purged_at IS NOT NULL AND OLD.purged_at IS DISTINCT FROM NEW.purged_at)
        )
    )
    EXECUTE FUNCTION refuse_change_of_terminal_facts();

-- By what envelopes are found that have an entry in their metadata. Hashes, as entries may be long.
CREATE FUNCTION metadata_entry(key text, value text) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT substring(sha256(convert_to(jsonb_build_array(key, value)::text, 'UTF8')) FOR 16)
$$;
CREATE TABLE envelope_metadata (
    account_id uuid NOT NULL,
    entry bytea NOT NULL CHECK (length(entry) = 16),
    envelope_id uuid NOT NULL,
    PRIMARY KEY (account_id, entry, envelope_id),
    FOREIGN KEY (account_id, envelope_id) REFERENCES envelope (account_id, id)
);

CREATE TABLE recipient (
    account_id uuid NOT NULL,
    envelope_id uuid NOT NULL,
    id uuid NOT NULL,
    position smallint NOT NULL,
    name text NOT NULL,
    email text NOT NULL,
    -- The same as people are searched by it: domain/address.rs.
    address text NOT NULL,
    role smallint NOT NULL CHECK (role BETWEEN 1 AND 5),
    assists uuid,
    copy_on_send boolean NOT NULL,
    label text NOT NULL,
    group_number smallint NOT NULL CHECK (group_number >= 0),
    -- How their refusal is taken, if not as the envelope says: store/terms.rs.
    decline_policy jsonb,
    status smallint NOT NULL CHECK (status BETWEEN 1 AND 9),
    released_at timestamptz,
    acted_at timestamptz,
    effective boolean,
    declined_at timestamptz,
    decline_channel smallint CHECK (decline_channel BETWEEN 1 AND 3),
    decline_reason text,
    decline_note text,
    ended_at timestamptz,
    viewed_at timestamptz,
    invited_at timestamptz,
    -- Their own language and time zone, and what they were told besides: store/notices.rs.
    locality jsonb,
    notices jsonb,
    delegations smallint NOT NULL DEFAULT 0,
    filled_revision bigint NOT NULL DEFAULT 0,
    token_generation integer NOT NULL CHECK (token_generation > 0),
    token_salt bytea NOT NULL CHECK (length(token_salt) = 16),
    token_hash bytea NOT NULL CHECK (length(token_hash) = 32),
    PRIMARY KEY (account_id, envelope_id, id),
    FOREIGN KEY (account_id, envelope_id) REFERENCES envelope (account_id, id),
    -- The status carries its facts, and no others.
    CONSTRAINT facts_of_status CHECK (
        (status <> 1 OR released_at IS NULL)
        AND (status NOT IN (2, 3, 8) OR released_at IS NOT NULL)
        AND (status IN (3, 8)) = (acted_at IS NOT NULL)
        AND (status IN (3, 8)) = (effective IS NOT NULL)
        AND (status <> 3 OR role = 1) AND (status <> 8 OR role = 2)
        AND (status = 4) = (declined_at IS NOT NULL)
        AND (status = 4) = (decline_channel IS NOT NULL)
        AND (status <> 4 OR role IN (1, 2))
        AND (status IN (5, 6, 7, 9)) = (ended_at IS NOT NULL)
        AND (role = 5) = (assists IS NOT NULL)
    )
) WITH (fillfactor = 85);

-- Nor do those who were in it. STABLE, so that it sees the envelope as it was before the statement: the one that ends an
-- envelope settles its recipients as well.
CREATE FUNCTION refuse_change_of_what_ended() RETURNS trigger LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF EXISTS (
        SELECT FROM envelope WHERE account_id = OLD.account_id AND id = OLD.envelope_id
            AND num_nonnulls(completed_at, declined_at, voided_at, expired_at) > 0
    ) THEN
        RAISE EXCEPTION 'envelope % is terminal: what belongs to it cannot be changed', OLD.envelope_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;

-- What people said and what things were called stays until the envelope is purged: a purge erases it.
CREATE FUNCTION refuse_change_of_what_is_kept() RETURNS trigger LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF EXISTS (
        SELECT FROM envelope WHERE account_id = OLD.account_id AND id = OLD.envelope_id AND purged_at IS NULL
            AND num_nonnulls(completed_at, declined_at, voided_at, expired_at) > 0
    ) THEN
        RAISE EXCEPTION 'envelope % is terminal: what belongs to it cannot be changed', OLD.envelope_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER settled_recipient BEFORE UPDATE ON recipient FOR EACH ROW
    WHEN (
        (OLD.role, OLD.status, OLD.released_at, OLD.acted_at, OLD.effective, OLD.declined_at, OLD.decline_channel,
         OLD.ended_at, OLD.notices)
        IS DISTINCT FROM
        (NEW.role, NEW.status, NEW.released_at, NEW.acted_at, NEW.effective, NEW.declined_at, NEW.decline_channel,
         NEW.ended_at, NEW.notices)
    )
    EXECUTE FUNCTION refuse_change_of_what_ended();
CREATE TRIGGER kept_reason BEFORE UPDATE ON recipient FOR EACH ROW
    WHEN ((OLD.decline_reason, OLD.decline_note) IS DISTINCT FROM (NEW.decline_reason, NEW.decline_note))
    EXECUTE FUNCTION refuse_change_of_what_is_kept();

CREATE TRIGGER kept_recipient BEFORE DELETE ON recipient FOR EACH ROW
    EXECUTE FUNCTION refuse_change_of_what_ended();

CREATE TABLE document (
    account_id uuid NOT NULL,
    envelope_id uuid NOT NULL,
    id uuid NOT NULL,
    position smallint NOT NULL,
    name text NOT NULL,
    -- Of the PDF that people see and sign: zeros until it was read.
    sha256 bytea NOT NULL CHECK (length(sha256) = 32),
    size_bytes bigint NOT NULL CHECK (size_bytes >= 0),
    page_count integer NOT NULL CHECK (page_count >= 0),
    ingest smallint NOT NULL CHECK (ingest BETWEEN 1 AND 3),
    -- What came, where the PDF is made of it.
    original_sha256 bytea CHECK (length(original_sha256) = 32),
    original_size_bytes bigint CHECK (original_size_bytes > 0),
    content_type smallint CHECK (content_type BETWEEN 1 AND 2),
    -- What is still to be read, and why it cannot be signed: store/ingest.rs.
    awaits jsonb,
    fault jsonb,
    -- Whether the bytes are needed: not once the envelope is purged.
    stored boolean NOT NULL DEFAULT true,
    PRIMARY KEY (account_id, envelope_id, id),
    FOREIGN KEY (account_id, envelope_id) REFERENCES envelope (account_id, id),
    CONSTRAINT facts_of_reading CHECK (
        (ingest <> 2 OR (size_bytes > 0 AND page_count > 0))
        AND (ingest = 1 OR awaits IS NULL)
        AND (ingest = 3 OR fault IS NULL)
        AND num_nonnulls(original_sha256, original_size_bytes, content_type) IN (0, 3)
    )
);
CREATE INDEX recipient_address ON recipient (account_id, address, envelope_id);

-- Documents that are still to be read.
CREATE TABLE ingest_job (
    account_id uuid NOT NULL,
    envelope_id uuid NOT NULL,
    document_id uuid NOT NULL,
    source_id uuid NOT NULL,
    begun_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    -- What was fetched and converted so far: store/ingest.rs.
    got jsonb,
    PRIMARY KEY (account_id, envelope_id, document_id),
    FOREIGN KEY (account_id, envelope_id, document_id) REFERENCES document (account_id, envelope_id, id)
);
CREATE INDEX ingest_job_due ON ingest_job (due_at);
CREATE INDEX ingest_job_original ON ingest_job (got_bytes(got, 'original')) WHERE got_bytes(got, 'original') IS NOT NULL;
CREATE INDEX ingest_job_pdf ON ingest_job (got_bytes(got, 'pdf')) WHERE got_bytes(got, 'pdf') IS NOT NULL;
CREATE TRIGGER claimed_bytes BEFORE INSERT OR UPDATE OF got ON ingest_job FOR EACH ROW
    EXECUTE FUNCTION claim_what_was_got();

CREATE TABLE artifact (
    account_id uuid NOT NULL,
    envelope_id uuid NOT NULL,
    document_id uuid NOT NULL,
    version smallint NOT NULL CHECK (version BETWEEN 2 AND 4),
    sha256 bytea NOT NULL CHECK (length(sha256) = 32),
    size_bytes bigint NOT NULL CHECK (size_bytes > 0),
    created_at timestamptz NOT NULL,
    -- How much its seal proves: nothing, who and that it is whole, also when, also for the long term.
    seal smallint NOT NULL CHECK (seal BETWEEN 1 AND 4),
    -- Whether nothing was drawn on it, so that signatures that it came with stay valid.
    is_bare boolean NOT NULL,
    -- As of a document.
    stored boolean NOT NULL DEFAULT true,
    PRIMARY KEY (account_id, envelope_id, document_id, version),
    FOREIGN KEY (account_id, envelope_id, document_id) REFERENCES document (account_id, envelope_id, id)
);
-- Whose a file is that somebody asks about.
CREATE INDEX artifact_sha256 ON artifact (account_id, sha256);

CREATE TABLE field (
    account_id uuid NOT NULL,
    envelope_id uuid NOT NULL,
    id uuid NOT NULL,
    position smallint NOT NULL,
    kind smallint NOT NULL CHECK (kind BETWEEN 1 AND 10),
    recipient_id uuid NOT NULL,
    document_id uuid NOT NULL,
    page integer NOT NULL CHECK (page > 0),
    x_percent double precision NOT NULL,
    y_percent double precision NOT NULL,
    width_percent double precision NOT NULL,
    height_percent double precision NOT NULL,
    required boolean NOT NULL,
    read_only boolean NOT NULL,
    name text NOT NULL,
    -- What a value has to be like: store/terms.rs.
    rules jsonb,
    text_value text,
    checked_value boolean,
    -- SHA-256 of a drawing.
    drawn_value bytea CHECK (length(drawn_value) = 32),
    PRIMARY KEY (account_id, envelope_id, id),
    FOREIGN KEY (account_id, envelope_id, recipient_id) REFERENCES recipient (account_id, envelope_id, id),
    FOREIGN KEY (account_id, envelope_id, document_id) REFERENCES document (account_id, envelope_id, id),
    CONSTRAINT on_the_page CHECK (
        x_percent >= 0 AND y_percent >= 0 AND width_percent > 0 AND height_percent > 0
        AND x_percent + width_percent <= 100.000001 AND y_percent + height_percent <= 100.000001
    )
) WITH (fillfactor = 85);

-- What was signed stays what it was: what identifies documents and artefacts for ever, their names and values until they are
-- erased.
CREATE TRIGGER kept_document BEFORE DELETE ON document FOR EACH ROW EXECUTE FUNCTION refuse_change_of_what_ended();
CREATE TRIGGER settled_document BEFORE UPDATE ON document FOR EACH ROW
    WHEN (to_jsonb(OLD) - '{name,stored,awaits,fault}'::text[]
        IS DISTINCT FROM to_jsonb(NEW) - '{name,stored,awaits,fault}'::text[])
    EXECUTE FUNCTION refuse_change_of_what_ended();
CREATE TRIGGER named_document BEFORE UPDATE ON document FOR EACH ROW
    WHEN ((OLD.name, OLD.stored, OLD.awaits, OLD.fault) IS DISTINCT FROM (NEW.name, NEW.stored, NEW.awaits, NEW.fault))
    EXECUTE FUNCTION refuse_change_of_what_is_kept();
CREATE TRIGGER kept_artifact BEFORE DELETE ON artifact FOR EACH ROW EXECUTE FUNCTION refuse_change_of_what_ended();
CREATE TRIGGER settled_artifact BEFORE UPDATE ON artifact FOR EACH ROW
    WHEN (to_jsonb(OLD) - 'stored' IS DISTINCT FROM to_jsonb(NEW) - 'stored')
    EXECUTE FUNCTION refuse_change_of_what_ended();
CREATE TRIGGER needed_artifact BEFORE UPDATE ON artifact FOR EACH ROW WHEN (OLD.stored IS DISTINCT FROM NEW.stored)
    EXECUTE FUNCTION refuse_change_of_what_is_kept();

CREATE INDEX document_bytes ON document (sha256) WHERE stored;
CREATE INDEX document_original ON document (original_sha256) WHERE stored AND original_sha256 IS NOT NULL;
CREATE INDEX artifact_bytes ON artifact (sha256) WHERE stored;
CREATE TRIGGER claimed_bytes BEFORE INSERT OR UPDATE OF sha256, original_sha256 ON document FOR EACH ROW
    EXECUTE FUNCTION claim_blob_and_original();
CREATE TRIGGER claimed_bytes BEFORE INSERT OR UPDATE OF sha256 ON artifact FOR EACH ROW EXECUTE FUNCTION claim_blob();

-- Whether any row of anybody needs these bytes.
CREATE FUNCTION blob_is_needed(digest bytea) RETURNS boolean LANGUAGE sql AS $$
    SELECT EXISTS (SELECT FROM document WHERE sha256 = digest AND stored)
        OR EXISTS (SELECT FROM artifact WHERE sha256 = digest AND stored)
        OR EXISTS (SELECT FROM document WHERE original_sha256 = digest AND stored)
        OR EXISTS (SELECT FROM upload WHERE sha256 = digest)
        OR EXISTS (SELECT FROM upload WHERE base_sha256 = digest)
        OR EXISTS (SELECT FROM ingest_job WHERE got_bytes(got, 'original') = digest)
        OR EXISTS (SELECT FROM ingest_job WHERE got_bytes(got, 'pdf') = digest)
$$;

-- Condemns bytes that were claimed until `lease`, unless somebody needs them. A function, so that the looks at the tables are
-- later than the lock.
CREATE FUNCTION condemn_blob(digest bytea, lease timestamptz, now timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(2, blob_lock(digest));
    IF blob_is_needed(digest) THEN
        DELETE FROM blob_removal WHERE sha256 = digest AND due_at = lease;
        RETURN false;
    END IF;
    UPDATE blob_removal SET condemned_at = coalesce(condemned_at, now)
    WHERE sha256 = digest AND due_at = lease AND removed_at IS NULL;
    RETURN FOUND;
END $$;
CREATE TRIGGER kept_field BEFORE DELETE ON field FOR EACH ROW
    EXECUTE FUNCTION refuse_change_of_what_ended();
CREATE TRIGGER settled_field BEFORE UPDATE ON field FOR EACH ROW
    WHEN (
        (NEW.text_value IS NOT NULL AND NEW.text_value IS DISTINCT FROM OLD.text_value)
        OR (NEW.checked_value IS NOT NULL AND NEW.checked_value IS DISTINCT FROM OLD.checked_value)
        OR (NEW.drawn_value IS NOT NULL AND NEW.drawn_value IS DISTINCT FROM OLD.drawn_value)
        OR (NEW.kind, NEW.recipient_id, NEW.document_id) IS DISTINCT FROM (OLD.kind, OLD.recipient_id, OLD.document_id)
    )
    EXECUTE FUNCTION refuse_change_of_what_ended();

-- What people drew, once for all fields that hold it: fields are read often, drawings are not.
CREATE TABLE drawing (
    account_id uuid NOT NULL,
    envelope_id uuid NOT NULL,
    sha256 bytea NOT NULL CHECK (length(sha256) = 32),
    content bytea NOT NULL,
    PRIMARY KEY (account_id, envelope_id, sha256),
    FOREIGN KEY (account_id, envelope_id) REFERENCES envelope (account_id, id)
);

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

-- What is personal about an event. The record commits to it under the salt, so that it can be erased.
CREATE TABLE event_particulars (
    account_id uuid NOT NULL,
    envelope_id uuid NOT NULL,
    sequence bigint NOT NULL,
    salt bytea NOT NULL CHECK (length(salt) = 16),
    content bytea NOT NULL,
    PRIMARY KEY (account_id, envelope_id, sequence),
    FOREIGN KEY (account_id, envelope_id, sequence) REFERENCES event (account_id, envelope_id, sequence)
);

ALTER TABLE ledger_entry ADD FOREIGN KEY (account_id, envelope_id) REFERENCES envelope (account_id, id);

CREATE FUNCTION refuse_change_of_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the history is append-only' USING ERRCODE = 'check_violation';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON event FOR EACH ROW EXECUTE FUNCTION refuse_change_of_history();
CREATE TRIGGER append_only_as_a_whole BEFORE TRUNCATE ON event EXECUTE FUNCTION refuse_change_of_history();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_entry FOR EACH ROW
    EXECUTE FUNCTION refuse_change_of_history();
CREATE TRIGGER append_only_as_a_whole BEFORE TRUNCATE ON ledger_entry EXECUTE FUNCTION refuse_change_of_history();

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

-- Locked while events are moved, and changed now and then only: dead versions of a row that each batch changes pile up for
-- as long as anybody in the cluster holds a snapshot, and every batch would have to step over all of them.
CREATE TABLE feed_head (
    part smallint PRIMARY KEY,
    -- Up to here the feed has been cut off.
    floor_position bigint NOT NULL DEFAULT 0 CHECK (floor_position >= 0),
    -- Up to here nothing waits in the outbox, nor ever will: all transactions that took these numbers have ended.
    settled_id bigint NOT NULL DEFAULT 0
);
INSERT INTO feed_head SELECT part FROM generate_series(0, 15) AS part;

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

-- When the service last said so: what a replica shows is as old as this at most. Written only where there is a replica.
CREATE TABLE beat (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    at timestamptz NOT NULL
);

-- The second wall between accounts. A transaction sees the rows of the account that it was begun for, and none without one;
-- the service's own loops see all. Forced, because the service owns its tables; a superuser is not held back by it.
DO $$
DECLARE
    walled text;
    owner text;
BEGIN
    FOREACH walled IN ARRAY ARRAY['account', 'api_key', 'account_user', 'ledger_head', 'ledger_balance', 'ledger_entry', 'idempotency', 'upload',
        'envelope', 'envelope_metadata', 'recipient', 'document', 'artifact', 'field', 'drawing', 'event', 'event_particulars', 'artifact_job',
        'ingest_job']
    LOOP
        owner := CASE walled WHEN 'account' THEN 'id' ELSE 'account_id' END;
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', walled);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', walled);
        EXECUTE format(
            'CREATE POLICY own_rows ON %I USING (%I = NULLIF(current_setting(''countersign.account'', true), '''')::uuid)',
            walled, owner);
        EXECUTE format(
            'CREATE POLICY service ON %I USING (current_setting(''countersign.across_accounts'', true) = ''on'')', walled);
    END LOOP;
END $$;
