package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// What "vitrine config import" writes names settings of this daemon, with values of
// their types. The golden text is that command's own.
func TestImportedConfigurationIsUnderstood(t *testing.T) {
	raw, err := os.ReadFile("../vitrine/testdata/import.txt")
	if err != nil {
		t.Fatal(err)
	}
	text, _, ok := strings.Cut(string(raw), "-- notes --")
	if !ok {
		t.Fatal("the golden text has no notes")
	}
	file := filepath.Join(t.TempDir(), "vitrined.toml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var flags flagSet
	flags.register(pflag.NewFlagSet("test", pflag.ContinueOnError))
	flags.config = file
	config, err := loadConfig(flags)
	if err != nil {
		t.Fatal(err)
	}
	if config.Runtime.DefaultHandler != "crun" || config.Runtime.Handlers["crun"].Path != "/usr/bin/crun" || config.NRI.RequestTimeoutMilliseconds != 3000 ||
		!config.Runtime.Handlers["crun"].PrivilegedWithoutHostDevices || config.Runtime.Defaults.MinMemory != 12<<20 ||
		len(config.Runtime.Defaults.Devices) != 1 || config.Network.Sysctls["net.ipv4.ping_group_range"] != "0 1000" {
		t.Errorf("got %+v", config.Runtime)
	}
}
