// Package worker takes parcels from the queue and sees every message in them to its outcome: decode, run each
// message through the pipeline, settle, acknowledge. A parcel is acknowledged when each of its messages is
// terminal or parked in Postgres; it comes back whole when a fate could not be written.
package worker
