ALTER TABLE parcel ADD COLUMN checked_at timestamptz NOT NULL DEFAULT 'epoch';
ALTER TABLE message DROP COLUMN deaths;
