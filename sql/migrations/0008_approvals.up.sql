-- Mass sends that a second person must allow.

CREATE TABLE approval (
    id         uuid        PRIMARY KEY,
    account    int4        NOT NULL,
    key        text        COLLATE "C",
    hash       bytea       NOT NULL,
    content    text        NOT NULL,
    asked_by   text        NOT NULL,
    asked_at   timestamptz NOT NULL DEFAULT now(),
    state      text        NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'approving', 'approved', 'refused')),
    decided_by text        NOT NULL DEFAULT '',
    decided_at timestamptz,
    note       text        NOT NULL DEFAULT '',
    messages   uuid[]      NOT NULL DEFAULT '{}'
);
CREATE UNIQUE INDEX approval_key ON approval (account, key) WHERE key IS NOT NULL;
CREATE INDEX approval_asked_at ON approval (asked_at);
COMMENT ON TABLE approval IS 'Mass messages of accounts whose policy wants a second key. Such a message is enqueued when it is approved, and not before; kept as long as messages.';
COMMENT ON COLUMN approval.content IS 'The message, as JSON.';
COMMENT ON COLUMN approval.hash IS 'Tells whether the producer''s key comes with the same message again.';
COMMENT ON COLUMN approval.state IS 'approving: somebody approved it, and it is on its way into the queue or was cut short there; approving it again sends it once.';
COMMENT ON COLUMN approval.messages IS 'What it became: the message, or the parts of its list.';
