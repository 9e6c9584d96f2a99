-- The ledger: what was accepted, what became of it, and the work that is left.
--
-- Four tables hold the messages: message (state, narrow, updated), message_body and event (append-only), all
-- three partitioned by the id, whose first 48 bits are its time; and idempotency_key. Work lists that need an
-- order of their own stand beside them (parked, parcel, in_flight), so that message needs no index but its key.

CREATE TYPE message_kind AS ENUM ('template', 'subscribe', 'custom', 'mass');
CREATE TYPE message_lane AS ENUM ('urgent', 'normal', 'bulk');
CREATE TYPE message_state AS ENUM (
    'accepted', 'parked', 'sending',
    'sent', 'skipped', 'failed', 'expired', 'cancelled', 'dead', 'unknown');
CREATE TYPE message_reason AS ENUM (
    'none',
    'window_closed', 'window_used', 'mass_cap', 'frequency_cap', 'suppressed', 'duplicate', 'expired', 'cancelled',
    'refused_recipient', 'refused_request', 'refused_account', 'key_conflict', 'retries_exhausted', 'invalid', 'poison', 'in_doubt',
    'not_before', 'quiet_hours', 'backoff', 'quota', 'pace', 'gate');

CREATE TABLE account (
    id    int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name  text NOT NULL UNIQUE,
    appid text NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX account_appid ON account (appid) WHERE appid <> '';
COMMENT ON TABLE account IS 'Short numbers for accounts. A name that no configuration knows (any more) keeps its row.';

CREATE TABLE message (
    id              uuid           NOT NULL,
    parcel          uuid           NOT NULL,
    msgid           int8           NOT NULL,
    first_intent_at timestamptz    NOT NULL DEFAULT now(),
    intent_at       timestamptz    NOT NULL DEFAULT now(),
    finished_at     timestamptz    NOT NULL,
    account         int4           NOT NULL,
    kind            message_kind   NOT NULL,
    lane            message_lane   NOT NULL,
    state           message_state  NOT NULL,
    reason          message_reason NOT NULL,
    claim           int4           NOT NULL,
    pod             int4           NOT NULL,
    errcode         int4           NOT NULL,
    firing          int4           NOT NULL,
    n               int4           NOT NULL,
    attempt         int2           NOT NULL,
    doubt           bool           NOT NULL,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
COMMENT ON TABLE message IS 'One row for each message: its state. Every column has a fixed width and no NULL, and the key is the only index, so that both updates of a life (claim, settle) are HOT. Partitions begin at Beijing midnights.';
COMMENT ON COLUMN message.parcel IS 'The parcel it travels in now; a release gives it a new one. All zeros: none yet.';
COMMENT ON COLUMN message.msgid IS 'WeChat''s msgid or msg_id; 0: none.';
COMMENT ON COLUMN message.first_intent_at IS 'When it was first claimed; epoch: never. WeChat''s duplicate check counts from here.';
COMMENT ON COLUMN message.intent_at IS 'When it was last claimed; epoch: never.';
COMMENT ON COLUMN message.finished_at IS 'When it ended; epoch: not yet.';
COMMENT ON COLUMN message.claim IS 'The fence: an outcome counts only if it names the number of the last claim.';
COMMENT ON COLUMN message.attempt IS 'Claims that count as attempts: waiting for quota, pace or a gate gives one back.';
COMMENT ON COLUMN message.doubt IS 'An earlier attempt may have reached WeChat.';
COMMENT ON COLUMN message.pod IS 'The pod of the last claim; 0: none.';
COMMENT ON COLUMN message.errcode IS 'WeChat''s last answer; 0: accepted, or no answer yet.';
COMMENT ON COLUMN message.firing IS 'The firing of a campaign, and n the line of its audience; 0: none.';
CREATE TABLE message_default PARTITION OF message DEFAULT WITH (fillfactor = 50);

CREATE TABLE message_body (
    id         uuid  NOT NULL,
    parent     uuid,
    not_before timestamptz,
    expires_at timestamptz,
    recipient  text  NOT NULL,
    key        text,
    content    text  NOT NULL,
    labels     jsonb,
    recipients text[],
    fallback   text,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
COMMENT ON TABLE message_body IS 'What is sent, to whom. Append-only, written with the first state row. A campaign''s recipient has none: it is rendered again.';
COMMENT ON COLUMN message_body.recipient IS 'An openid; for mass list:N, tag:ID or all.';
COMMENT ON COLUMN message_body.recipients IS 'Mass only: the openids of the list.';
COMMENT ON COLUMN message_body.content IS 'WeChat''s own JSON, without touser.';
COMMENT ON COLUMN message_body.fallback IS 'JSON: the message to send instead where the window is closed.';
COMMENT ON COLUMN message_body.parent IS 'The message this one is a fallback of, or the first part of a mass list.';
CREATE TABLE message_body_default PARTITION OF message_body DEFAULT;

CREATE TABLE event (
    message_id uuid           NOT NULL,
    at         timestamptz    NOT NULL DEFAULT now(),
    claim      int4           NOT NULL,
    state      message_state  NOT NULL,
    reason     message_reason NOT NULL,
    errcode    int4           NOT NULL DEFAULT 0,
    errmsg     text           NOT NULL DEFAULT '',
    rid        text           NOT NULL DEFAULT '',
    note       text           NOT NULL DEFAULT ''
) PARTITION BY RANGE (message_id);
CREATE INDEX event_message_id ON event (message_id);
COMMENT ON TABLE event IS 'The timeline. Append-only; the plain accepted → sent leaves no event.';
COMMENT ON COLUMN event.note IS 'In words what the other columns cannot say, such as a result that came after its claim was lost.';
CREATE TABLE event_default PARTITION OF event DEFAULT;

CREATE TABLE idempotency_key (
    account   int4        NOT NULL,
    key       text        NOT NULL COLLATE "C",
    id        uuid        NOT NULL,
    body_hash bytea       NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, key)
);
CREATE INDEX idempotency_key_at ON idempotency_key (at);
COMMENT ON TABLE idempotency_key IS 'Producers'' keys, remembered for at least 24 h and purged in batches. Not partitioned: a key is unique over all days.';
COMMENT ON COLUMN idempotency_key.body_hash IS 'First 16 bytes of the SHA-256 of what is sent to whom.';

CREATE TABLE parked (
    id      uuid           PRIMARY KEY,
    due_at  timestamptz    NOT NULL,
    account int4           NOT NULL,
    kind    message_kind   NOT NULL,
    lane    message_lane   NOT NULL,
    reason  message_reason NOT NULL,
    alone   bool           NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX parked_due ON parked (account, kind, lane, due_at);
CREATE INDEX parked_attempted ON parked (account, kind, lane, due_at) WHERE reason = 'backoff';
COMMENT ON TABLE parked IS 'The releaser''s work list: one row for each message in state parked.';
COMMENT ON COLUMN parked.alone IS 'Travels in a parcel of its own.';

CREATE TABLE parcel (
    id         uuid         PRIMARY KEY,
    account    int4         NOT NULL,
    kind       message_kind NOT NULL,
    lane       message_lane NOT NULL,
    ids        uuid[]       NOT NULL,
    created_at timestamptz  NOT NULL DEFAULT now(),
    checked_at timestamptz  NOT NULL DEFAULT 'epoch'
) WITH (toast_tuple_target = 8160, fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE parcel IS 'Outbox: parcels of accepted messages that a queue must hold until they are done. The reconciler looks for them there.';

CREATE TABLE in_flight (
    pod   int4        NOT NULL,
    batch int8        NOT NULL,
    ids   uuid[]      NOT NULL,
    at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pod, batch)
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE in_flight ALTER COLUMN ids SET STORAGE EXTERNAL; -- 256 ids stay in the row
COMMENT ON TABLE in_flight IS 'One row for each committed batch of claims, deleted when all its messages are settled: where to look for what a dead pod left in state sending.';
COMMENT ON COLUMN in_flight.ids IS 'The messages whose claim was asked for; those granted have state sending, this pod, and intent_at = at.';

CREATE TABLE pod (
    id         int4        GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text        NOT NULL,
    version    text        NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
COMMENT ON TABLE pod IS 'Workers and their heartbeats. A row is one run of one process.';

CREATE TABLE pod_batch (
    pod   int4 PRIMARY KEY REFERENCES pod ON DELETE CASCADE,
    batch int8 NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE pod_batch IS 'The last batch that the pod''s committer has committed. A batch whose commit''s answer was lost is run again under its number, and begin_batch tells whether it was committed.';

CREATE FUNCTION begin_batch(of_pod int4, number int8) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE pod_batch SET batch = number WHERE pod = of_pod AND batch < number;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'batch % of pod % was committed before, or the pod is unknown', number, of_pod USING ERRCODE = 'HY001';
    END IF;
END $$;
COMMENT ON FUNCTION begin_batch IS 'Opens the transaction of a batch; refuses (HY001) a number that is not greater than the last committed one. Waits for a transaction of the same pod that is still open.';

CREATE TABLE rejected_task (
    id      int8        GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT now(),
    queue   text        NOT NULL,
    task    text        NOT NULL,
    type    text        NOT NULL,
    payload bytea       NOT NULL,
    reason  text        NOT NULL
);
CREATE INDEX rejected_task_at ON rejected_task (at);
COMMENT ON TABLE rejected_task IS 'What came out of a queue and cannot become a message: kept whole, for people.';

CREATE TABLE suppression (
    account     int4           NOT NULL,
    openid      text           NOT NULL COLLATE "C",
    template_id text           NOT NULL COLLATE "C" DEFAULT '',
    active      bool           NOT NULL,
    reason      message_reason NOT NULL,
    errcode     int4           NOT NULL,
    since       timestamptz    NOT NULL,
    changed_at  timestamptz    NOT NULL DEFAULT now(),
    PRIMARY KEY (account, openid, template_id)
);
CREATE INDEX suppression_changed_at ON suppression (changed_at);
COMMENT ON TABLE suppression IS 'Users who refuse our messages, or one template of them, until an event of theirs says otherwise. Pods follow it by changed_at; rows that are no longer active stay.';
COMMENT ON COLUMN suppression.template_id IS 'Empty: every message to this user.';

CREATE TABLE gate (
    account    int4           NOT NULL,
    api        text           NOT NULL COLLATE "C",
    state      text           NOT NULL CHECK (state IN ('open', 'closed', 'broken')),
    reason     text           NOT NULL,
    errcode    int4           NOT NULL,
    detail     text           NOT NULL,
    since      timestamptz    NOT NULL,
    until      timestamptz    NOT NULL,
    changed_at timestamptz    NOT NULL DEFAULT now(),
    probed_at  timestamptz    NOT NULL DEFAULT 'epoch',
    probe      uuid,
    PRIMARY KEY (account, api)
);
COMMENT ON COLUMN gate.probe IS 'broken: the one message that may pass, to find out whether it is mended.';
COMMENT ON TABLE gate IS 'May this account call this API now. An empty api is the whole account.';
COMMENT ON COLUMN gate.until IS 'closed: until then. broken: not probed before. open: epoch.';
COMMENT ON COLUMN gate.since IS 'When it left the state before; further refusals keep it.';

CREATE TABLE inbound_last (
    account int4        NOT NULL,
    openid  text        NOT NULL COLLATE "C",
    trigger text        NOT NULL COLLATE "C",
    at      timestamptz NOT NULL,
    PRIMARY KEY (account, openid, trigger)
) WITH (fillfactor = 80);
COMMENT ON TABLE inbound_last IS 'The last event of each user and trigger, from which the window ledger is rebuilt.';

-- Mass sends: the caps of accounts and users, by Beijing's calendar. A day is 20261231, a month 202612.

CREATE TABLE mass_count (
    account int4 NOT NULL,
    period  int4 NOT NULL,
    scope   text NOT NULL COLLATE "C",
    used    int4 NOT NULL,
    PRIMARY KEY (account, period, scope)
);
COMMENT ON TABLE mass_count IS 'Mass sends of an account that hold a cap. Written only under a lock on the account''s row.';
COMMENT ON COLUMN mass_count.period IS 'A day or a month.';
COMMENT ON COLUMN mass_count.scope IS 'Empty: any scope; all; tag:ID.';

CREATE TABLE mass_user (
    h       int8 NOT NULL,
    month   int4 NOT NULL,
    account int4 NOT NULL,
    n       int2 NOT NULL,
    PRIMARY KEY (account, h, month)
) PARTITION BY LIST (month);
COMMENT ON TABLE mass_user IS 'How many mass sends by list a user got in a month.';
COMMENT ON COLUMN mass_user.h IS 'First 64 bits of an HMAC of the openid: no openid is kept.';
CREATE TABLE mass_user_default PARTITION OF mass_user DEFAULT;

CREATE TABLE mass_call (
    id          uuid        PRIMARY KEY,
    account     int4        NOT NULL,
    scope       text        NOT NULL,
    tag         text        NOT NULL DEFAULT '',
    day         int4        NOT NULL,
    month       int4        NOT NULL,
    state       text        NOT NULL CHECK (state IN ('reserved', 'sent', 'refunded')),
    hashes      bytea       NOT NULL,
    n           int4        NOT NULL,
    msg_id      int8        NOT NULL DEFAULT 0,
    msg_data_id int8        NOT NULL DEFAULT 0,
    reserved_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE mass_call ALTER COLUMN hashes SET STORAGE EXTERNAL;
CREATE INDEX mass_call_reserved ON mass_call (id) WHERE state = 'reserved';
COMMENT ON TABLE mass_call IS 'What a mass message took from the caps: day, month and users stand as they were reserved, for an exact refund, once.';
COMMENT ON COLUMN mass_call.id IS 'The message.';
COMMENT ON COLUMN mass_call.hashes IS 'The users of a list, sorted, 8 bytes each.';

CREATE TABLE mass_left_out (
    message uuid           NOT NULL,
    openid  text           NOT NULL COLLATE "C",
    reason  message_reason NOT NULL,
    PRIMARY KEY (message, openid)
);
COMMENT ON TABLE mass_left_out IS 'Users of a list to whom the message did not go, and why.';

CREATE FUNCTION uuid_time(id uuid) RETURNS timestamptz LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN timestamptz 'epoch' + ('x0000' || left(replace(id::text, '-', ''), 12))::bit(64)::int8 * interval '1 millisecond';
COMMENT ON FUNCTION uuid_time IS 'The instant a UUIDv7 was made for.';

CREATE VIEW outcomes AS
SELECT m.id,
       b.parent AS parent_id,
       a.name AS account,
       m.kind::text AS kind,
       b.recipient,
       b.key,
       NULL::uuid AS campaign_id,
       m.state::text AS status,
       nullif(m.reason, 'none')::text AS reason,
       CASE WHEN m.state = 'sent' OR m.errcode <> 0 THEN m.errcode END AS errcode,
       CASE WHEN m.errcode <> 0 THEN (
           SELECT nullif(e.errmsg, '') FROM event e
           WHERE e.message_id = m.id AND e.errcode = m.errcode ORDER BY e.at DESC LIMIT 1) END AS errmsg,
       nullif(m.msgid, 0)::text AS wechat_msgid,
       m.attempt::int4 AS attempts,
       m.lane::text AS lane,
       uuid_time(m.id) AS accepted_at,
       CASE WHEN m.state = 'sent' THEN m.finished_at END AS sent_at,
       nullif(m.finished_at, 'epoch') AS finished_at,
       NULL::text AS receipt,
       b.labels
FROM message m
JOIN account a ON a.id = m.account
LEFT JOIN message_body b ON b.id = m.id;
COMMENT ON VIEW outcomes IS 'Every message with its outcome, for reports. Stable: docs name its columns.';
COMMENT ON COLUMN outcomes.errcode IS 'WeChat''s last answer: 0 for sent, NULL where no call was answered.';
