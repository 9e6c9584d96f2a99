-- What a dead worker leaves behind, and how often a message has outlived its worker.

ALTER TABLE message ADD COLUMN deaths int2 NOT NULL DEFAULT 0;
COMMENT ON COLUMN message.deaths IS 'Claims that ended with their worker''s death; the third ends the message as dead: poison.';

-- The reconciler remembers in its own memory when it last looked: a million parcels that are well cost no write.
ALTER TABLE parcel DROP COLUMN checked_at;
