// Package sql holds the migrations of Hongyan's database, embedded, so that a program carries the schema
// that it was written for.
package sql

import "embed"

// Migrations holds migrations/NNNN_name.up.sql and .down.sql, as golang-migrate names them.
//
//go:embed migrations/*.sql
var Migrations embed.FS
