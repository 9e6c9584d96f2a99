package postgres

// The statements of a committer's transaction. They are prepared once for each session and take a batch as arrays,
// in id order, in which every transaction takes its rows: two pods with the same messages then wait for each
// other, and deadlock only across statements, which is repeated.
//
// The bounds (least and greatest id of the batch) let a generic plan leave out partitions before it runs. They are
// written as >= ALL (ARRAY[…]) because an index takes no ALL: as plain comparisons they were a way into the index
// that looks as cheap as the key on a small partition, and then each row of the batch reads the whole batch's range,
// with a plan that stays while the partition grows. On the array they are plain, and mean nothing but "one row" to
// the planner: an array of one row is looked up by key, however small the partition was when the plan was made.
const (
	sqlBegin      = `BEGIN`
	sqlCommit     = `COMMIT`
	sqlRollback   = `ROLLBACK`
	sqlBeginBatch = `SELECT now(), begin_batch($1, $2)`

	// claimKnown takes messages whose rows are there.
	sqlClaimKnown = `
		UPDATE message AS m SET state = 'sending', reason = 'none', claim = m.claim + 1, attempt = m.attempt + 1, pod = $4,
			intent_at = now(), first_intent_at = CASE WHEN m.first_intent_at = 'epoch' THEN now() ELSE m.first_intent_at END
		FROM unnest($1::uuid[]) AS i (id)
		WHERE i.id >= $2::uuid AND i.id <= $3::uuid AND m.id = i.id AND m.id >= ALL (ARRAY[$2::uuid]) AND m.id <= ALL (ARRAY[$3::uuid]) AND m.state = 'accepted'
		RETURNING m.id, m.claim, m.attempt, m.doubt, m.first_intent_at, m.intent_at`

	// verdictKnown decides about messages whose rows are there. One that an earlier attempt may have sent does not end
	// by a verdict without a call: nobody can know (the answer's second column says so).
	sqlVerdictKnown = `
		UPDATE message AS m SET state = CASE WHEN m.doubt AND i.ends THEN 'unknown' ELSE i.state::message_state END,
			reason = CASE WHEN m.doubt AND i.ends THEN 'in_doubt' ELSE i.reason::message_reason END,
			errcode = CASE WHEN i.errcode = 0 THEN m.errcode ELSE i.errcode END, doubt = m.doubt OR i.doubt,
			finished_at = CASE WHEN i.ends THEN now() ELSE 'epoch' END
		FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int4[], $5::bool[], $6::bool[]) AS i (id, state, reason, errcode, ends, doubt)
		WHERE i.id >= $7::uuid AND i.id <= $8::uuid AND m.id = i.id AND m.id >= ALL (ARRAY[$7::uuid]) AND m.id <= ALL (ARRAY[$8::uuid]) AND m.state = 'accepted'
		RETURNING m.id, m.doubt AND i.ends`

	// copyClaims claims messages that have no row, which is cheaper than firstWrite by half; the times of intent are the
	// columns' defaults. One row that is there fails the transaction, which is then repeated with firstWrite.
	sqlCopyClaims = `COPY message (id, parcel, msgid, finished_at, account, kind, lane, state, reason, claim, pod, errcode, firing, n, attempt, doubt)
		FROM STDIN (FORMAT binary)`
	sqlCopyBodies = `COPY message_body (` + bodyColumns + `) FROM STDIN (FORMAT binary)`

	// holdChunks makes sure that chunks are in the hands of their runs, until the transaction ends.
	sqlHoldChunks = `SELECT hold_chunks($1, $2, $3)`
	// copyEnds makes the rows of recipients' messages that were sent; what is the same in each is the columns' defaults.
	sqlCopyEnds = `COPY message (id, msgid, first_intent_at, intent_at, account, kind, lane, pod, firing, n, recipient) FROM STDIN (FORMAT binary)`
	// endRecipients makes them whatever became of them. One that is there is the reconciler's: the claim was lost.
	sqlEndRecipients = `
		INSERT INTO message AS m (id, msgid, first_intent_at, intent_at, finished_at, account, kind, lane, pod, state, reason, errcode, firing, n, attempt, doubt, recipient)
		SELECT i.id, i.msgid, CASE WHEN i.ends OR i.doubt THEN i.intent ELSE 'epoch' END, i.intent, CASE WHEN i.ends THEN now() ELSE 'epoch' END,
			i.account, i.kind::message_kind, i.lane::message_lane, $1, i.state::message_state, i.reason::message_reason, i.errcode, i.firing, i.n,
			(1 - i.uncounted)::int2, i.doubt, i.recipient
		FROM unnest($2::uuid[], $3::int8[], $4::timestamptz[], $5::int4[], $6::text[], $7::text[], $8::text[], $9::text[], $10::int4[], $11::int4[], $12::int4[],
			$13::int2[], $14::bool[], $15::bool[], $16::text[])
			AS i (id, msgid, intent, account, kind, lane, state, reason, errcode, firing, n, uncounted, ends, doubt, recipient)
		ON CONFLICT (id) DO NOTHING
		RETURNING m.id`

	// firstWrite claims, or decides about, messages that may have no row yet.
	sqlFirstWrite = `
		INSERT INTO message AS m (id, parcel, msgid, first_intent_at, intent_at, finished_at, account, kind, lane, state, reason,
			claim, pod, errcode, firing, n, attempt, doubt)
		SELECT i.id, i.parcel, 0, CASE WHEN i.claims THEN now() ELSE 'epoch' END, CASE WHEN i.claims THEN now() ELSE 'epoch' END,
			CASE WHEN i.ends THEN now() ELSE 'epoch' END, i.account, i.kind::message_kind, i.lane::message_lane,
			i.state::message_state, i.reason::message_reason,
			i.claims::int4, CASE WHEN i.claims THEN $1 ELSE 0 END, i.errcode, i.firing, i.n, i.claims::int4::int2, i.doubt
		FROM unnest($2::uuid[], $3::uuid[], $4::int4[], $5::text[], $6::text[], $7::text[], $8::text[], $9::int4[], $10::bool[], $11::bool[], $12::bool[],
			$13::int4[], $14::int4[])
			AS i (id, parcel, account, kind, lane, state, reason, errcode, claims, ends, doubt, firing, n)
		ON CONFLICT (id) DO UPDATE SET
			state = CASE WHEN m.doubt AND excluded.claim = 0 AND excluded.finished_at <> 'epoch' THEN 'unknown' ELSE excluded.state END,
			reason = CASE WHEN m.doubt AND excluded.claim = 0 AND excluded.finished_at <> 'epoch' THEN 'in_doubt' ELSE excluded.reason END,
			claim = m.claim + excluded.claim, attempt = m.attempt + excluded.attempt,
			pod = CASE WHEN excluded.pod = 0 THEN m.pod ELSE excluded.pod END,
			intent_at = greatest(m.intent_at, excluded.intent_at),
			first_intent_at = CASE WHEN m.first_intent_at = 'epoch' THEN excluded.first_intent_at ELSE m.first_intent_at END,
			finished_at = excluded.finished_at, doubt = m.doubt OR excluded.doubt,
			errcode = CASE WHEN excluded.errcode = 0 THEN m.errcode ELSE excluded.errcode END
		WHERE m.state = 'accepted'
		RETURNING id, claim, attempt, doubt, first_intent_at, intent_at, state = 'unknown'`

	// bodies goes with firstWrite and endRecipients. Where the message has a body it is the same; where a campaign's has none
	// but a recipient, it was sent, and stays so.
	sqlBodies = `
		INSERT INTO message_body (id, parent, not_before, expires_at, recipient, key, content, labels, recipients, fallback)
		SELECT i.id, i.parent, i.not_before, i.expires_at, i.recipient, i.key, i.content, i.labels::jsonb, i.recipients::text[], i.fallback
		FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::int4[])
			AS i (id, parent, not_before, expires_at, recipient, key, content, labels, recipients, fallback, firing)
		WHERE i.firing = 0 OR NOT EXISTS (SELECT FROM message m WHERE m.id = i.id AND m.recipient <> '')
		ON CONFLICT (id) DO NOTHING`

	// settleSent is the plain case: WeChat accepted the message.
	sqlSettleSent = `
		UPDATE message AS m SET state = 'sent', reason = 'none', errcode = 0, msgid = i.msgid, finished_at = now()
		FROM unnest($1::uuid[], $2::int4[], $3::int8[]) AS i (id, claim, msgid)
		WHERE i.id >= $4::uuid AND i.id <= $5::uuid AND m.id = i.id AND m.id >= ALL (ARRAY[$4::uuid]) AND m.id <= ALL (ARRAY[$5::uuid]) AND m.state = 'sending'` + fence + `
		RETURNING m.id`

	sqlSettle = `
		UPDATE message AS m SET state = i.state::message_state, reason = i.reason::message_reason,
			errcode = CASE WHEN i.errcode = 0 AND i.state <> 'sent' THEN m.errcode ELSE i.errcode END,
			msgid = CASE WHEN i.msgid = 0 THEN m.msgid ELSE i.msgid END,
			finished_at = CASE WHEN i.ends THEN now() ELSE 'epoch' END,
			attempt = m.attempt - i.uncounted, doubt = m.doubt OR i.doubt,
			-- WeChat's window for repeats counts from the first attempt that may have left.
			first_intent_at = CASE WHEN i.ends OR m.doubt OR i.doubt THEN m.first_intent_at ELSE 'epoch' END
		FROM unnest($1::uuid[], $2::int4[], $3::text[], $4::text[], $5::int4[], $6::int8[], $7::bool[], $8::int2[], $9::bool[])
			AS i (id, claim, state, reason, errcode, msgid, ends, uncounted, doubt)
		WHERE i.id >= $10::uuid AND i.id <= $11::uuid AND m.id = i.id AND m.id >= ALL (ARRAY[$10::uuid]) AND m.id <= ALL (ARRAY[$11::uuid]) AND m.state = 'sending'` + fence + `
		RETURNING m.id`

	sqlInFlight = `INSERT INTO in_flight (pod, batch, ids, firings, ns) VALUES ($1, $2, $3, $4, $5)`
	sqlLanded   = `DELETE FROM in_flight WHERE pod = $1 AND batch = ANY ($2::int8[])`
	sqlParcels  = `DELETE FROM parcel WHERE id = ANY ($1::uuid[])`

	// evidence turns an unknown into what a late result proves: that it was sent, whichever attempt it was, or that
	// the last attempt was not.
	sqlEvidence = `
		UPDATE message AS m SET state = i.state::message_state, reason = i.reason::message_reason, errcode = i.errcode,
			msgid = CASE WHEN i.msgid = 0 THEN m.msgid ELSE i.msgid END, finished_at = now()
		FROM unnest($1::uuid[], $2::int4[], $3::text[], $4::text[], $5::int4[], $6::int8[]) AS i (id, claim, state, reason, errcode, msgid)
		WHERE i.id >= $7::uuid AND i.id <= $8::uuid AND m.id = i.id AND m.id >= ALL (ARRAY[$7::uuid]) AND m.id <= ALL (ARRAY[$8::uuid]) AND m.state = 'unknown' AND (i.state = 'sent' OR m.claim = i.claim AND NOT m.doubt)
		RETURNING m.id`

	sqlEvents = `
		INSERT INTO event (message_id, claim, state, reason, errcode, errmsg, rid, note)
		SELECT i.id, i.claim, i.state::message_state, i.reason::message_reason, i.errcode, i.errmsg, i.rid, i.note
		FROM unnest($1::uuid[], $2::int4[], $3::text[], $4::text[], $5::int4[], $6::text[], $7::text[], $8::text[])
			AS i (id, claim, state, reason, errcode, errmsg, rid, note)`

	sqlParked = `
		INSERT INTO parked (id, due_at, account, kind, lane, reason, alone)
		SELECT i.id, CASE WHEN i.due = 'epoch' THEN now() ELSE i.due END, i.account, i.kind::message_kind, i.lane::message_lane, i.reason::message_reason, i.alone
		FROM unnest($1::uuid[], $2::timestamptz[], $3::int4[], $4::text[], $5::text[], $6::text[], $7::bool[])
			AS i (id, due, account, kind, lane, reason, alone)
		ON CONFLICT (id) DO UPDATE SET due_at = excluded.due_at, reason = excluded.reason, alone = excluded.alone`

	sqlSuppress = `
		INSERT INTO suppression AS s (account, openid, template_id, active, reason, errcode, since)
		SELECT i.account, i.openid, i.template_id, true, 'refused_recipient', i.errcode, now()
		FROM unnest($1::int4[], $2::text[], $3::text[], $4::int4[]) AS i (account, openid, template_id, errcode)
		ON CONFLICT (account, openid, template_id) DO UPDATE SET active = true, errcode = excluded.errcode, changed_at = now(), since = now()`

	sqlMassSent = `
		UPDATE mass_call AS c SET state = 'sent', msg_id = i.msg_id, msg_data_id = i.msg_data_id
		FROM unnest($1::uuid[], $2::int8[], $3::int8[]) AS i (id, msg_id, msg_data_id)
		WHERE c.id = i.id AND c.state <> 'refunded'`

	// For a transaction whose commit's answer was lost.
	sqlGranted = `
		SELECT m.id, m.claim, m.attempt, m.doubt, m.first_intent_at, m.intent_at
		FROM in_flight f CROSS JOIN LATERAL unnest(f.ids) AS i (id) JOIN message m ON m.id = i.id
		WHERE f.pod = $1 AND f.batch = $2 AND m.state = 'sending' AND m.pod = f.pod AND m.intent_at = f.at`
	sqlGrantedRecipients = `SELECT at FROM in_flight WHERE pod = $1 AND batch = $2`
	sqlStates            = `
		SELECT m.id, m.state::text, m.reason::text, m.claim
		FROM unnest($1::uuid[]) AS i (id) JOIN message m ON m.id = i.id`
)

// committerStatements are prepared in a committer's session.
var committerStatements = []string{
	sqlBegin, sqlCommit, sqlRollback, sqlBeginBatch, sqlClaimKnown, sqlVerdictKnown,
	sqlCopyClaims, sqlCopyBodies, sqlFirstWrite, sqlHoldChunks, sqlCopyEnds, sqlEndRecipients, sqlBodies, sqlSettleSent, sqlSettle, sqlInFlight, sqlLanded, sqlParcels,
	sqlEvidence, sqlEvents, sqlParked, sqlSuppress, sqlMassSent, sqlInsertKeys, sqlSelectKeys, sqlGranted, sqlGrantedRecipients, sqlStates,
}
