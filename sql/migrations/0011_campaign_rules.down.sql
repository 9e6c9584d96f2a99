DROP INDEX firing_ended_at;
ALTER TABLE firing DROP COLUMN refused;
DROP INDEX campaign_alive_name;
