// Package feed keeps work flowing from Postgres into Redis: parked messages that are due become parcels again,
// at the pace of their account. It is a loop over Postgres, not a task, and one pod leads it at a time, so that
// nothing is released faster than it may be sent and no herd runs at midnight.
package feed
