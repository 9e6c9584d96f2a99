-- Whose a message is, wherever that stands. In a transaction of its own: holding message, it would wait for readers of the
-- view outcomes who wait for message.

CREATE VIEW addressed AS
SELECT b.id, b.recipient, b.content FROM message_body b
UNION ALL
SELECT m.id, m.recipient, NULL FROM message m WHERE m.recipient <> '';
COMMENT ON VIEW addressed IS 'Each message with its recipient, by whom it is looked up quickly. content is NULL where it can be composed again. Ask for a recipient by a constant or a parameter: joined with another table''s column, the view is read whole.';

CREATE VIEW claimed AS
SELECT u.id, f.pod, f.batch, f.at, u.firing, u.n, g.campaign, c.account, c.kind, coalesce(nullif(c.spec ->> 'lane', ''), 'bulk')::message_lane AS lane, coalesce(r.openid, '') AS recipient
FROM in_flight f CROSS JOIN LATERAL unnest(f.ids, f.firings, f.ns) AS u (id, firing, n)
JOIN firing g ON g.id = u.firing JOIN campaign c ON c.id = g.campaign
LEFT JOIN LATERAL (SELECT openid FROM recipient WHERE audience = g.audience AND n = u.n OFFSET 0) AS r ON true
WHERE NOT EXISTS (SELECT FROM message m WHERE m.id = u.id AND m.account = c.account OFFSET 0);
COMMENT ON VIEW claimed IS 'The recipients of campaigns who were claimed and are no messages yet: who is being sent to, and what dead workers have left. Each is looked up by itself (OFFSET 0).';

CREATE OR REPLACE VIEW outcomes AS
SELECT m.id,
       b.parent AS parent_id,
       a.name AS account,
       m.kind::text AS kind,
       coalesce(b.recipient, m.recipient) AS recipient,
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
       coalesce(b.labels, (SELECT c.spec -> 'labels' FROM campaign c WHERE c.id = f.campaign)) AS labels
FROM message m
JOIN account a ON a.id = m.account
LEFT JOIN message_body b ON b.id = m.id
LEFT JOIN firing f ON f.id = m.firing;
