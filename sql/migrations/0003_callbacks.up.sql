-- What WeChat's pushes tell: which messages arrived, and who wants none.

CREATE TABLE receipt (
    account     int4         NOT NULL,
    key         text         NOT NULL COLLATE "C",
    kind        message_kind NOT NULL,
    msgid       int8         NOT NULL,
    openid      text         NOT NULL COLLATE "C",
    template_id text         NOT NULL,
    at          timestamptz  NOT NULL,
    delivered   bool         NOT NULL,
    reason      text         NOT NULL,
    code        int4         NOT NULL,
    sealed      bool         NOT NULL,
    job         jsonb,
    received_at timestamptz  NOT NULL DEFAULT now(),
    look_at     timestamptz,
    message     uuid,
    inferred    bool         NOT NULL DEFAULT false,
    PRIMARY KEY (account, key)
);
CREATE INDEX receipt_message ON receipt (message) WHERE message IS NOT NULL;
CREATE INDEX receipt_look_at ON receipt (look_at) WHERE look_at IS NOT NULL;
CREATE INDEX receipt_received_at ON receipt (received_at);
COMMENT ON TABLE receipt IS 'What WeChat reported of messages that it had accepted. Written by the callback, joined to its message later: it may come before our own outcome, and more than once.';
COMMENT ON COLUMN receipt.key IS 'Equal for repetitions of one report.';
COMMENT ON COLUMN receipt.msgid IS 'As the send was answered; 0 where WeChat forgot it.';
COMMENT ON COLUMN receipt.openid IS 'Empty for mass sends.';
COMMENT ON COLUMN receipt.sealed IS 'Surely WeChat''s. A report in plain mode is a hint: it joins nothing.';
COMMENT ON COLUMN receipt.job IS 'Mass sends: totals, copyright checks, addresses of the articles.';
COMMENT ON COLUMN receipt.look_at IS 'When its message is looked for; NULL: found, or given up.';
COMMENT ON COLUMN receipt.inferred IS 'Joined by user and time, because WeChat named no msgid that we know.';

ALTER TABLE mass_call ADD COLUMN asked_at timestamptz NOT NULL DEFAULT 'epoch';
COMMENT ON COLUMN mass_call.asked_at IS 'When WeChat was last asked what became of it, for want of a receipt.';
CREATE INDEX mass_call_msg_id ON mass_call (msg_id) WHERE msg_id <> 0;

CREATE INDEX message_body_recipient ON message_body (recipient);
COMMENT ON INDEX message_body_recipient IS 'The messages of a user. The table is append-only, so this costs an insert and no more.';

ALTER TABLE suppression
    ADD COLUMN left_at   timestamptz NOT NULL DEFAULT 'epoch',
    ADD COLUMN lifted_at timestamptz NOT NULL DEFAULT 'epoch';
COMMENT ON COLUMN suppression.since IS 'The last refusal: WeChat''s answer, a receipt, or the user''s choice; epoch: none.';
COMMENT ON COLUMN suppression.left_at IS 'When the user left the account; epoch: not seen.';
COMMENT ON COLUMN suppression.lifted_at IS 'When the user last accepted the template; epoch: not seen.';

CREATE OR REPLACE VIEW outcomes AS
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
       (SELECT CASE WHEN r.delivered THEN 'delivered' WHEN r.reason = '' THEN 'undelivered' ELSE 'undelivered: ' || r.reason END
        FROM receipt r WHERE r.message = m.id ORDER BY r.at DESC LIMIT 1) AS receipt,
       b.labels
FROM message m
JOIN account a ON a.id = m.account
LEFT JOIN message_body b ON b.id = m.id;
COMMENT ON COLUMN outcomes.receipt IS 'delivered, or undelivered with WeChat''s reason; NULL: WeChat has reported nothing (yet).';
