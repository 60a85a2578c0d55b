DROP TABLE ledger_entry, artifact_job, feed, feed_incarnation, feed_head, outbox, event_particulars, event, drawing, field, artifact, document, recipient, envelope,
    upload, blob_removal, idempotency, ledger_balance, ledger_head, account_user, api_key, account;
DROP FUNCTION claim_idempotency_key, refuse_change_of_history, refuse_change_of_what_ended, refuse_change_of_what_is_kept, claim_blob, condemn_blob, blob_is_needed, blob_lock, refuse_change_of_terminal_facts;
