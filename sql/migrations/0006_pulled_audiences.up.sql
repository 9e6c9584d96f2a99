-- Audiences that workers fetch for a firing: of a tag, of all followers, by a query.

ALTER TABLE audience ADD COLUMN tick timestamptz;
CREATE UNIQUE INDEX audience_tick ON audience (campaign, tick);
COMMENT ON COLUMN audience.tick IS 'The tick for whose firing it was fetched: one for each, however many workers there are. NULL: imported, or of a retry.';
