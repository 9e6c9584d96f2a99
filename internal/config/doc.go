// Package config reads the one YAML file and the environment that Hongyan's commands are started with.
//
// Only mains read it; every other package takes plain arguments. [Load] reads once, checks everything,
// and reports all mistakes in one error, each with its line, its path, the rule and what to do. Every key
// stands in docs/configuration.md, which a test compares with the structs of this package.
package config
