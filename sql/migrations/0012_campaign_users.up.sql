-- A message that a campaign has sent needs no body: its firing's texts and its recipient's row say what it was. What did
-- not simply go out gets one. So the messages of a user stand in two places, which the next migration's view holds together.

ALTER TABLE message ADD COLUMN recipient text NOT NULL DEFAULT '';
COMMENT ON COLUMN message.recipient IS 'The openid of a campaign''s message that has no body; empty: its body says who.';

-- What stands in a row that a campaign's claim makes, beside what the claim names.
ALTER TABLE message
    ALTER COLUMN parcel SET DEFAULT '00000000-0000-0000-0000-000000000000',
    ALTER COLUMN msgid SET DEFAULT 0,
    ALTER COLUMN finished_at SET DEFAULT 'epoch',
    ALTER COLUMN state SET DEFAULT 'sending',
    ALTER COLUMN reason SET DEFAULT 'none',
    ALTER COLUMN claim SET DEFAULT 1,
    ALTER COLUMN errcode SET DEFAULT 0,
    ALTER COLUMN attempt SET DEFAULT 1,
    ALTER COLUMN doubt SET DEFAULT false;

-- Nobody writes while this index is made. No release is older than it; a later one on a table of this size is made CONCURRENTLY.
CREATE INDEX message_recipient ON message (recipient) WHERE recipient <> '';
COMMENT ON INDEX message_recipient IS 'The messages of a user that have no body. What is sent plainly keeps the column, so that its settle stays HOT.';
COMMENT ON TABLE message IS 'One row for each message: its state. A claim and a plain settle change no column that is in an index, so that both updates of a life are HOT. Partitions begin at Beijing midnights.';
COMMENT ON TABLE message_body IS 'What is sent, to whom. Append-only, written with the first state row; a campaign''s message has one if it did not simply go out.';
