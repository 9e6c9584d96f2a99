-- Ended messages that were sent on their way again, as new messages.

CREATE TABLE replay (
    of uuid        PRIMARY KEY,
    id uuid        NOT NULL UNIQUE,
    at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE replay IS 'One row for each message that was replayed. Its key is why none is replayed twice, whoever tries, however often, at the same time or after a crash.';
COMMENT ON COLUMN replay.of IS 'The message that had ended.';
COMMENT ON COLUMN replay.id IS 'The new message, with the same content for the same user.';
