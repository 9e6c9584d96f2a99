-- With all workers stopped. What campaigns have sent keeps its recipient, not its text.
INSERT INTO message_body (id, recipient, content, labels)
SELECT m.id, m.recipient, '{}', (SELECT c.spec -> 'labels' FROM firing f JOIN campaign c ON c.id = f.campaign WHERE f.id = m.firing)
FROM message m WHERE m.recipient <> '';
UPDATE message SET recipient = '' WHERE recipient <> '';

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
DROP VIEW claimed;
DROP VIEW addressed;
