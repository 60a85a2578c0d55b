DROP TABLE ledger_entry, artifact_job, ingest_job, feed, feed_incarnation, feed_head, outbox, event_particulars, event, drawing, field, artifact, document, recipient, envelope,
    upload, blob_removal, idempotency, ledger_balance, ledger_head, account_user, api_key, account;
DROP FUNCTION claim_idempotency_key, refuse_change_of_history, refuse_change_of_what_ended, refuse_change_of_what_is_kept, claim_blob, claim_blob_and_original, claim_blob_and_base, claim_what_was_got, claim_bytes, got_bytes, condemn_blob, blob_is_needed, blob_lock, refuse_change_of_terminal_facts;
