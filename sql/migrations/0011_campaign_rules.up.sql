-- Rules of campaigns that programs alone used to keep, and the end of one firing without its campaign's.

LOCK TABLE campaign IN SHARE ROW EXCLUSIVE MODE;
-- Where two were created at the same moment, the younger ones get a name of their own.
UPDATE campaign c SET name = left(c.name, 87) || ' ' || right(c.id::text, 12)
WHERE c.state NOT IN ('done', 'cancelled', 'failed') AND EXISTS (
    SELECT FROM campaign o
    WHERE o.name = c.name AND o.state NOT IN ('done', 'cancelled', 'failed') AND (o.created_at, o.id) < (c.created_at, c.id));
CREATE UNIQUE INDEX campaign_alive_name ON campaign (name) WHERE state NOT IN ('done', 'cancelled', 'failed');

ALTER TABLE firing ADD COLUMN refused text NOT NULL DEFAULT '';
CREATE INDEX firing_ended_at ON firing (ended_at) WHERE ended_at IS NOT NULL;
COMMENT ON COLUMN firing.refused IS 'Why it cannot go on, while its campaign does: what it has left ends as cancelled. Empty: it can.';
