-- Campaigns: what is to be said to whom and when, and how far it has come. A campaign fires once or by a schedule; a
-- firing goes to an audience, chunk by chunk; a recipient becomes a message when its chunk comes to it.

CREATE TABLE campaign (
    id         uuid         PRIMARY KEY,
    name       text         NOT NULL,
    account    int4         NOT NULL,
    kind       message_kind NOT NULL,
    spec       jsonb        NOT NULL,
    state      text         NOT NULL DEFAULT 'draft'
               CHECK (state IN ('draft', 'scheduled', 'running', 'paused', 'throttled', 'parked', 'done', 'cancelled', 'failed')),
    reason     text         NOT NULL DEFAULT '',
    until      timestamptz  NOT NULL DEFAULT 'epoch',
    last_tick  timestamptz  NOT NULL DEFAULT 'epoch',
    next_tick  timestamptz,
    created_at timestamptz  NOT NULL DEFAULT now(),
    changed_at timestamptz  NOT NULL DEFAULT now()
);
CREATE INDEX campaign_name ON campaign (name);
CREATE INDEX campaign_next_tick ON campaign (next_tick) WHERE next_tick IS NOT NULL;
COMMENT ON TABLE campaign IS 'One row for each campaign: what it says (spec, as it was checked) and how it stands.';
COMMENT ON COLUMN campaign.reason IS 'Why it is paused, throttled, parked or failed, in words.';
COMMENT ON COLUMN campaign.until IS 'throttled, parked: when it goes on by itself; epoch: not known.';
COMMENT ON COLUMN campaign.last_tick IS 'The schedule was followed up to this instant; epoch: not yet.';
COMMENT ON COLUMN campaign.next_tick IS 'When it fires next; NULL: by hand, or never again.';

CREATE TABLE audience (
    id         int4        GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign   uuid        NOT NULL REFERENCES campaign ON DELETE CASCADE,
    source     text        NOT NULL,
    columns    text[]      NOT NULL,
    state      text        NOT NULL DEFAULT 'importing' CHECK (state IN ('importing', 'ready', 'dropped')),
    total      int4        NOT NULL DEFAULT 0,
    duplicates int4        NOT NULL DEFAULT 0,
    refused    int4        NOT NULL DEFAULT 0,
    suppressed int4        NOT NULL DEFAULT 0,
    bytes      int8        NOT NULL DEFAULT 0,
    lines      int8        NOT NULL DEFAULT 0,
    cursor     text        NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audience_campaign ON audience (campaign);
COMMENT ON TABLE audience IS 'A list of recipients. While it is imported each transaction of rows also moves bytes, lines and cursor, so that a killed import goes on behind the last row that is there.';
COMMENT ON COLUMN audience.source IS 'file:NAME, tag:ID, followers, sql, or retry:FIRING.';
COMMENT ON COLUMN audience.columns IS 'The names of recipient.vars, in their order.';
COMMENT ON COLUMN audience.total IS 'Its recipients, whose n are 1 to total.';
COMMENT ON COLUMN audience.cursor IS 'Where a list pulled from WeChat or a query goes on.';

CREATE TABLE recipient (
    audience int4   NOT NULL,
    n        int4   NOT NULL,
    openid   text   NOT NULL COLLATE "C",
    vars     text[] NOT NULL,
    PRIMARY KEY (audience, n)
);
COMMENT ON TABLE recipient IS 'Append-only, written by COPY.';

CREATE TABLE firing (
    id         int4        GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign   uuid        NOT NULL REFERENCES campaign,
    tick       timestamptz NOT NULL,
    audience   int4        NOT NULL REFERENCES audience,
    started_at timestamptz NOT NULL DEFAULT date_trunc('milliseconds', now()),
    ended_at   timestamptz,
    total      int4        NOT NULL,
    canary     bool        NOT NULL DEFAULT false,
    UNIQUE (campaign, tick)
);
CREATE INDEX firing_open ON firing (campaign) WHERE ended_at IS NULL;
COMMENT ON TABLE firing IS 'One run of a campaign over its audience. The key makes it exactly one for each tick, however many schedulers there are.';
COMMENT ON COLUMN firing.started_at IS 'The time in the ids of its messages, which are computed from it, the firing and n.';
COMMENT ON COLUMN firing.canary IS 'Its first chunk goes alone; then the campaign pauses for a look.';

CREATE TABLE chunk (
    firing int4        NOT NULL,
    no     int4        NOT NULL,
    first  int4        NOT NULL,
    last   int4        NOT NULL,
    state  text        NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'queued', 'running', 'settling', 'done')),
    fence  int4        NOT NULL DEFAULT 0,
    owner  int4        NOT NULL DEFAULT 0,
    lost   int2        NOT NULL DEFAULT 0,
    until  timestamptz NOT NULL DEFAULT 'epoch',
    tally  jsonb,
    PRIMARY KEY (firing, no)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX chunk_waiting ON chunk (firing, no) WHERE state = 'waiting';
CREATE INDEX chunk_busy ON chunk (firing, no) WHERE state IN ('queued', 'running', 'settling');
COMMENT ON TABLE chunk IS 'Recipients first to last of a firing''s audience: what travels through the queue as one task.';
COMMENT ON COLUMN chunk.state IS 'waiting: in no queue. settling: all recipients are messages, and some have not ended yet.';
COMMENT ON COLUMN chunk.fence IS 'Counts its runs: only the last may write here.';
COMMENT ON COLUMN chunk.owner IS 'The pod of the last run; 0: none.';
COMMENT ON COLUMN chunk.lost IS 'Runs that ended with their worker''s death.';
COMMENT ON COLUMN chunk.until IS 'queued: when it is looked for in the queue. running: the end of its lease.';
COMMENT ON COLUMN chunk.tally IS 'done: its messages by outcome, as {"sent": 198, "failed refused_recipient": 2}.';

COMMENT ON TABLE message_body IS 'What is sent, to whom. Append-only, written with the first state row.';
COMMENT ON COLUMN message.firing IS 'The firing of a campaign, and n the number of the recipient in its audience; 0: none.';

CREATE OR REPLACE VIEW outcomes AS
SELECT m.id,
       b.parent AS parent_id,
       a.name AS account,
       m.kind::text AS kind,
       b.recipient,
       b.key,
       f.campaign AS campaign_id,
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
       (SELECT CASE WHEN r.delivered THEN 'delivered' WHEN r.reason = '' THEN 'undelivered' ELSE 'undelivered: ' || r.reason END
        FROM receipt r WHERE r.message = m.id ORDER BY r.at DESC LIMIT 1) AS receipt,
       b.labels
FROM message m
JOIN account a ON a.id = m.account
LEFT JOIN message_body b ON b.id = m.id
LEFT JOIN firing f ON f.id = m.firing;
COMMENT ON COLUMN outcomes.campaign_id IS 'The campaign whose recipient it was; NULL: none.';
