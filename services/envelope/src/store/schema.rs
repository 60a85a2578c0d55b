//! The tables as diesel sees them; `migrations/` is the truth.
#![allow(missing_docs)]

diesel::table! {
    account (id) {
        id -> Uuid,
        name -> Text,
        created_at -> Timestamptz,
        suspended_at -> Nullable<Timestamptz>,
        revision -> Int8,
        settings -> Jsonb,
    }
}

diesel::table! {
    api_key (account_id, id) {
        account_id -> Uuid,
        id -> Uuid,
        livemode -> Bool,
        name -> Text,
        permissions -> Array<Int2>,
        hash -> Bytea,
        created_at -> Timestamptz,
        expires_at -> Nullable<Timestamptz>,
        overlap_until -> Nullable<Timestamptz>,
        revoked_at -> Nullable<Timestamptz>,
        last_used_at -> Nullable<Timestamptz>,
        replaced_by -> Nullable<Uuid>,
    }
}

diesel::table! {
    ledger_head (account_id) { account_id -> Uuid, entries -> Int8, }
}

diesel::table! {
    ledger_balance (account_id, unit) { account_id -> Uuid, unit -> Text, available -> Int8, }
}

diesel::table! {
    ledger_entry (account_id, id) {
        account_id -> Uuid,
        id -> Uuid,
        sequence -> Int8,
        kind -> Int2,
        unit -> Text,
        amount -> Int8,
        balance_after -> Int8,
        occurred_at -> Timestamptz,
        envelope_id -> Nullable<Uuid>,
        reference -> Text,
    }
}

diesel::table! {
    account_user (account_id, id) {
        account_id -> Uuid,
        id -> Uuid,
        livemode -> Bool,
        email -> Text,
        token_hash -> Bytea,
        created_at -> Timestamptz,
        revoked_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    upload (account_id, id) {
        account_id -> Uuid,
        id -> Uuid,
        livemode -> Bool,
        name -> Text,
        sha256 -> Bytea,
        size_bytes -> Int8,
        content_type -> Int2,
        base_sha256 -> Nullable<Bytea>,
        base_size_bytes -> Nullable<Int8>,
        page_count -> Int4,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    envelope (account_id, id) {
        account_id -> Uuid,
        id -> Uuid,
        livemode -> Bool,
        revision -> Int8,
        sequence -> Int8,
        chain -> Bytea,
        last_event_at -> Timestamptz,
        subject -> Text,
        external_reference -> Text,
        metadata -> Jsonb,
        terms -> Jsonb,
        scheduled_send_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
        dispatched_at -> Nullable<Timestamptz>,
        sent_at -> Nullable<Timestamptz>,
        first_signed_at -> Nullable<Timestamptz>,
        all_acted_at -> Nullable<Timestamptz>,
        completed_at -> Nullable<Timestamptz>,
        declined_at -> Nullable<Timestamptz>,
        voided_at -> Nullable<Timestamptz>,
        expired_at -> Nullable<Timestamptz>,
        discarded_at -> Nullable<Timestamptz>,
        expires_at -> Timestamptz,
        warned_at -> Nullable<Timestamptz>,
        cause -> Nullable<Int2>,
        ended_by -> Nullable<Uuid>,
        void_reason -> Nullable<Text>,
        requires_replacement -> Bool,
        replaces -> Nullable<Uuid>,
        replaced_by -> Nullable<Uuid>,
        charge -> Nullable<Jsonb>,
        status -> Int2,
    }
}

// How an envelope is kept: more columns of the same table.
diesel::table! {
    #[sql_name = "envelope"]
    keeping (account_id, id) {
        account_id -> Uuid,
        id -> Uuid,
        retention_days -> Int4,
        purge_warning_days -> Int2,
        draft_days -> Int2,
        purge_warned_at -> Nullable<Timestamptz>,
        legal_hold_at -> Nullable<Timestamptz>,
        purged_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    recipient (account_id, envelope_id, id) {
        account_id -> Uuid,
        envelope_id -> Uuid,
        id -> Uuid,
        position -> Int2,
        name -> Text,
        email -> Text,
        role -> Int2,
        assists -> Nullable<Uuid>,
        copy_on_send -> Bool,
        label -> Text,
        group_number -> Int2,
        decline_policy -> Nullable<Jsonb>,
        status -> Int2,
        released_at -> Nullable<Timestamptz>,
        acted_at -> Nullable<Timestamptz>,
        effective -> Nullable<Bool>,
        declined_at -> Nullable<Timestamptz>,
        decline_channel -> Nullable<Int2>,
        decline_reason -> Nullable<Text>,
        decline_note -> Nullable<Text>,
        ended_at -> Nullable<Timestamptz>,
        viewed_at -> Nullable<Timestamptz>,
        invited_at -> Nullable<Timestamptz>,
        locality -> Nullable<Jsonb>,
        notices -> Nullable<Jsonb>,
        delegations -> Int2,
        filled_revision -> Int8,
        token_generation -> Int4,
        token_salt -> Bytea,
        token_hash -> Bytea,
    }
}

diesel::table! {
    document (account_id, envelope_id, id) {
        account_id -> Uuid,
        envelope_id -> Uuid,
        id -> Uuid,
        position -> Int2,
        name -> Text,
        sha256 -> Bytea,
        size_bytes -> Int8,
        page_count -> Int4,
        ingest -> Int2,
        original_sha256 -> Nullable<Bytea>,
        original_size_bytes -> Nullable<Int8>,
        content_type -> Nullable<Int2>,
        awaits -> Nullable<Jsonb>,
        fault -> Nullable<Jsonb>,
    }
}

diesel::table! {
    artifact (account_id, envelope_id, document_id, version) {
        account_id -> Uuid,
        envelope_id -> Uuid,
        document_id -> Uuid,
        version -> Int2,
        sha256 -> Bytea,
        size_bytes -> Int8,
        created_at -> Timestamptz,
        seal -> Int2,
        is_bare -> Bool,
    }
}

diesel::table! {
    field (account_id, envelope_id, id) {
        account_id -> Uuid,
        envelope_id -> Uuid,
        id -> Uuid,
        position -> Int2,
        kind -> Int2,
        recipient_id -> Uuid,
        document_id -> Uuid,
        page -> Int4,
        x_percent -> Float8,
        y_percent -> Float8,
        width_percent -> Float8,
        height_percent -> Float8,
        required -> Bool,
        read_only -> Bool,
        name -> Text,
        rules -> Nullable<Jsonb>,
        text_value -> Nullable<Text>,
        checked_value -> Nullable<Bool>,
        drawn_value -> Nullable<Bytea>,
    }
}

diesel::table! {
    drawing (account_id, envelope_id, sha256) {
        account_id -> Uuid,
        envelope_id -> Uuid,
        sha256 -> Bytea,
        content -> Bytea,
    }
}

diesel::table! {
    event (account_id, envelope_id, sequence) {
        account_id -> Uuid,
        envelope_id -> Uuid,
        sequence -> Int8,
        id -> Uuid,
        kind -> Int2,
        recipient_id -> Nullable<Uuid>,
        occurred_at -> Timestamptz,
        record -> Bytea,
        prev_hash -> Bytea,
        hash -> Bytea,
        traceparent -> Nullable<Text>,
    }
}

diesel::table! {
    event_particulars (account_id, envelope_id, sequence) {
        account_id -> Uuid,
        envelope_id -> Uuid,
        sequence -> Int8,
        salt -> Bytea,
        content -> Bytea,
    }
}

diesel::table! {
    feed_head (part) { part -> Int2, floor_position -> Int8, settled_id -> Int8, }
}

diesel::table! {
    feed_incarnation (only_row) { only_row -> Bool, id -> Uuid, }
}

diesel::table! {
    ingest_job (account_id, envelope_id, document_id) {
        account_id -> Uuid,
        envelope_id -> Uuid,
        document_id -> Uuid,
        source_id -> Uuid,
        begun_at -> Timestamptz,
        due_at -> Timestamptz,
        attempts -> Int4,
        got -> Nullable<Jsonb>,
    }
}

diesel::table! {
    artifact_job (account_id, envelope_id, version) {
        account_id -> Uuid,
        envelope_id -> Uuid,
        version -> Int2,
        due_at -> Timestamptz,
        attempts -> Int4,
    }
}

diesel::allow_tables_to_appear_in_same_query!(event, event_particulars);
diesel::allow_tables_to_appear_in_same_query!(artifact, envelope);
