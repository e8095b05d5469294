package network

import "errors"

// ErrPluginMissing is a plugin binary that stands in none of the plugin directories.
// Detach has then run the plugins that exist and kept the attachment's file, so that
// GC finishes the work when the plugin is back; a caller that stops a pod goes on.
var ErrPluginMissing = errors.New("CNI plugin missing")
