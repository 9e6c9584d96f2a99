DROP VIEW outcomes;
DROP TABLE account, message, message_body, event, idempotency_key, parked, parcel, in_flight, pod_batch, pod,
    rejected_task, suppression, gate, inbound_last, mass_count, mass_user, mass_call, mass_left_out;
DROP FUNCTION begin_batch, uuid_time;
DROP TYPE message_kind, message_lane, message_state, message_reason;
