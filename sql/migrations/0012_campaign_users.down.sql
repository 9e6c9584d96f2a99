DROP FUNCTION hold_chunks;
ALTER TABLE in_flight DROP COLUMN firings, DROP COLUMN ns;
DROP INDEX message_recipient;
ALTER TABLE message DROP COLUMN recipient,
    ALTER COLUMN parcel DROP DEFAULT, ALTER COLUMN finished_at DROP DEFAULT,
    ALTER COLUMN state DROP DEFAULT, ALTER COLUMN reason DROP DEFAULT, ALTER COLUMN claim DROP DEFAULT,
    ALTER COLUMN errcode DROP DEFAULT, ALTER COLUMN attempt DROP DEFAULT, ALTER COLUMN doubt DROP DEFAULT;
COMMENT ON TABLE message IS 'One row for each message: its state. Every column has a fixed width and no NULL, and the key is the only index, so that both updates of a life (claim, settle) are HOT. Partitions begin at Beijing midnights.';
COMMENT ON TABLE message_body IS 'What is sent, to whom. Append-only, written with the first state row.';
