// Package powercut makes disks as a power cut leaves them, and tests that what lies on
// them is repaired.
//
// One machine works on a disk whose writes QEMU logs (its block driver blklogwrites) and
// dies in the midst of it. From the log any number of disks is made, each cut at another
// moment: what was flushed before that moment is there, and of each later write all,
// nothing, or its first sectors, by chance, as in a drive that lost its cache. A second
// machine starts the daemon on each of those disks. test/rig/power-cut runs it all.
//
// The last MarksSize bytes of the disk are no file system's. There the first machine
// writes one sector per promise, so that the log tells which promises came before a cut.
package powercut
