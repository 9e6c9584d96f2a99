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
       NULL::text AS receipt,
       b.labels
FROM message m
JOIN account a ON a.id = m.account
LEFT JOIN message_body b ON b.id = m.id;
COMMENT ON COLUMN outcomes.receipt IS NULL;
ALTER TABLE suppression DROP COLUMN left_at, DROP COLUMN lifted_at;
COMMENT ON COLUMN suppression.since IS NULL;
DROP INDEX message_body_recipient;
DROP INDEX mass_call_msg_id;
ALTER TABLE mass_call DROP COLUMN asked_at;
DROP TABLE receipt;
