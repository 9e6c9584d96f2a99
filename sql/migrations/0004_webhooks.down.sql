DROP TRIGGER queue_receipt ON receipt;
DROP TRIGGER IF EXISTS queue_ended ON message;
DROP TRIGGER IF EXISTS queue_born ON message;
DROP FUNCTION queue_receipt, queue_outcomes;
DROP TABLE webhook_event, webhook_endpoint;
ALTER TABLE account DROP COLUMN webhook;
