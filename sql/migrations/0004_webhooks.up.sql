-- Outcomes and receipts for producers who want to be told. The triggers on message that queue outcomes exist only while
-- an account has a webhook: worker and server make and drop them.

ALTER TABLE account ADD COLUMN webhook bool NOT NULL DEFAULT false;
COMMENT ON COLUMN account.webhook IS 'Its outcomes and receipts are queued for its endpoint.';

CREATE TABLE webhook_event (
    id      uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    account int4        NOT NULL,
    type    text        NOT NULL CHECK (type IN ('message.outcome', 'message.receipt')),
    message uuid        NOT NULL,
    at      timestamptz NOT NULL DEFAULT now(),
    due_at  timestamptz NOT NULL DEFAULT now(),
    tries   int2        NOT NULL DEFAULT 0
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX webhook_event_due ON webhook_event (account, due_at);
COMMENT ON TABLE webhook_event IS 'What an endpoint is still to be told; a row goes when it was told, or after a day.';
COMMENT ON COLUMN webhook_event.id IS 'The webhook-id of every try.';

CREATE TABLE webhook_endpoint (
    account       int4        PRIMARY KEY,
    failing_since timestamptz,
    disabled_at   timestamptz,
    reason        text        NOT NULL DEFAULT ''
);
COMMENT ON TABLE webhook_endpoint IS 'How an account''s endpoint does; no row: well.';

CREATE FUNCTION queue_outcomes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_event (account, type, message)
    SELECT e.account, 'message.outcome', e.id FROM ended e JOIN account a ON a.id = e.account AND a.webhook
    WHERE e.finished_at > 'epoch';
    RETURN NULL;
END $$;
COMMENT ON FUNCTION queue_outcomes IS 'Whatever ends a message, in the same transaction.';

CREATE FUNCTION queue_receipt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_event (account, type, message) SELECT NEW.account, 'message.receipt', NEW.message FROM account a WHERE a.id = NEW.account AND a.webhook;
    RETURN NULL;
END $$;
CREATE TRIGGER queue_receipt AFTER UPDATE OF message ON receipt FOR EACH ROW
    WHEN (NEW.message IS NOT NULL AND OLD.message IS NULL) EXECUTE FUNCTION queue_receipt();
