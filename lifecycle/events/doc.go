// Package events hands facts to whoever reads them: in one order, each once, without ever waiting
// for a reader. What is a fact, and when it is one, is lifecycle's to say (door.go).
package events
