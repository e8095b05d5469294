// Package image owns images and what containers see of them: it turns a reference
// into a stored image and a stored image into a mounted root file system. It stands
// on containers/image (registries, mirrors, credentials, signature policy) and
// containers/storage (layers on overlay), so that other tools of that family read
// the same store.
//
// It knows no pods: a root file system is named by the ID that its owner gives it.
// It never runs anything of an image, and nothing that an image says (labels,
// annotations, history) chooses a code path here.
//
// Invariants: an image that can be listed has all its layers; a layer that is
// visible was verified against its digest; no error, span or log line carries
// credentials or the query of a URL; List and Status are answered from memory.
//
//	STORAGE/                     Config.Root
//	├── overlay/, overlay-images/, overlay-layers/   containers/storage's own
//	├── vitrine.lock             held by the daemon that uses the store
//	├── vitrine.open             boot id of the process that has it open (journal.go)
//	├── unsynced/                layers that a power cut may damage (journal.go)
//	├── overlay/ID/vitrine.usage disk use of one layer (usage.go)
//	└── rootfs/ID/               one container's writable layer (rootfs.go)
package image
