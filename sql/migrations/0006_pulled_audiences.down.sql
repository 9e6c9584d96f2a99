DROP INDEX audience_tick;
ALTER TABLE audience DROP COLUMN tick;
