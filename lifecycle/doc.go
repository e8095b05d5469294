// Package lifecycle owns every change of a pod's state: the order of steps, their
// undoing, the locks, recovery after the daemon's death, and the publication of
// events.
//
// Invariants:
//   - Intent is on disk (states Creating and Removing) before the first side effect.
//   - State moves through one door (door.go): the move is checked against pod's
//     table, the record is written, the value becomes visible, the event is
//     published, in this order.
//   - Every step that has a side effect registers its undoing on the next line
//     (undo.go); recovery runs the same undoing from the record.
//   - A lock belongs to one pod or one container. A hung plugin, mount or process
//     blocks that one alone, and Operations names it.
//
// It never speaks gRPC, links no runtime, and reads no kernel event itself.
//
// What needs no pod to be known stands in packages of its own, which know nothing of this one:
// spec and cdi describe a container, host says what this host gives it, proc looks at
// processes, checkpoint is a container on disk, refuser tells who refused one a path, events
// hands facts to readers, nri speaks to plugins.
package lifecycle
