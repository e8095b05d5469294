// Package history owns what the node remembers of pods that are gone: their events,
// exits, the key steps of their calls, figures read at their end, and the lives of
// the daemon. It is bounded in bytes and in age, written behind, and survives
// restarts and reboots.
//
// It is never on the path of a start: Put hands an entry to a queue and returns; when
// the queue is full the entry is dropped and counted. What was handed over is in a
// file within milliseconds, so a crash of the daemon loses next to nothing, and on
// disk within seconds, so a crash of the kernel loses seconds.
//
//	DIR/
//	├── 0000000001.log     segments, the oldest first
//	└── 0000000002.log     the one that is written
//
// A segment begins with the line "vitrine-history 1"; each further line is the
// CRC32C of what follows in eight hexadecimal digits, a blank, and one Entry as JSON.
// A line that does not fit its sum was torn by a crash; it is passed over and counted.
package history
