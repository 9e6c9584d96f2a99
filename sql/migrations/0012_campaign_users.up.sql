-- A campaign's message has a row when it has ended, or waits: its claim is a line of in_flight. One that was sent needs no
-- body: its firing's texts and its recipient's row say what it was. What did not simply go out gets one. So the messages of
-- a user stand in two places, which the next migration's view holds together.

ALTER TABLE message ADD COLUMN recipient text NOT NULL DEFAULT '';
COMMENT ON COLUMN message.recipient IS 'The openid of a campaign''s message that has no body; empty: its body says who.';

-- What stands in the row of a campaign's message that simply went out, beside what is its own.
ALTER TABLE message
    ALTER COLUMN parcel SET DEFAULT '00000000-0000-0000-0000-000000000000',
    ALTER COLUMN finished_at SET DEFAULT now(),
    ALTER COLUMN state SET DEFAULT 'sent',
    ALTER COLUMN reason SET DEFAULT 'none',
    ALTER COLUMN claim SET DEFAULT 1,
    ALTER COLUMN errcode SET DEFAULT 0,
    ALTER COLUMN attempt SET DEFAULT 1,
    ALTER COLUMN doubt SET DEFAULT false;

-- Nobody writes while this index is made. No release is older than it; a later one on a table of this size is made CONCURRENTLY.
CREATE INDEX message_recipient ON message (recipient) WHERE recipient <> '';
COMMENT ON INDEX message_recipient IS 'The messages of a user that have no body.';
COMMENT ON TABLE message IS 'One row for each message: its state. A claim and a plain settle change no column that is in an index, so that both updates of a life are HOT; a campaign''s message that simply goes out is written once. Partitions begin at Beijing midnights.';
COMMENT ON TABLE message_body IS 'What is sent, to whom. Append-only, written with the first state row; a campaign''s message has one if it did not simply go out.';

ALTER TABLE in_flight
    ADD COLUMN firings int4[] NOT NULL DEFAULT '{}',
    ADD COLUMN ns int4[] NOT NULL DEFAULT '{}',
    ALTER COLUMN firings SET STORAGE EXTERNAL,
    ALTER COLUMN ns SET STORAGE EXTERNAL;
COMMENT ON COLUMN in_flight.firings IS 'Of each of the ids the firing, 0 for none: a recipient of a campaign, whose message has no row before it is settled.';
COMMENT ON COLUMN in_flight.ns IS 'Of each of the ids the number in the audience.';

CREATE FUNCTION hold_chunks(firings int4[], nos int4[], fences int4[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. cardinality(firings) LOOP
        PERFORM FROM chunk WHERE firing = firings[i] AND no = nos[i] AND fence = fences[i] AND state = 'running' FOR SHARE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'chunk % of firing % was given to another run', nos[i], firings[i]
                USING ERRCODE = 'HY002', DETAIL = format('%s %s %s', firings[i], nos[i], fences[i]);
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION hold_chunks IS 'Refuses (HY002) chunks that are not in the hands of these runs; holds the others so until the transaction ends. Whoever takes one over waits, and then sees what was claimed.';
