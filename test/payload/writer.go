package main

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Sizes of writer, in lines of 60 bytes each, newline included.
const (
	burstLines = 2000
	blockLines = 500 // half of what a pipe holds at first
)

// writer numbers lines on stdout, perSecond of them, and burstLines at once with each
// SIGUSR1, until the file end exists. Its last word, on stderr, is how many they were.
func writer(end string, perSecond, code int) {
	poked := make(chan os.Signal, 1)
	signal.Notify(poked, syscall.SIGUSR1)
	const turn = 250 * time.Millisecond
	next := time.NewTicker(turn)
	n := 0
	put := func(lines int) {
		for lines > 0 {
			now := min(lines, blockLines)
			write(os.Stdout, numbered(n, now))
			n, lines = n+now, lines-now
		}
	}
	for due := 0; ; {
		select {
		case <-poked:
			put(burstLines)
		case <-next.C:
			due += perSecond
			put(due / int(time.Second/turn))
			due %= int(time.Second / turn)
			if _, err := os.Stat(end); err == nil {
				fmt.Fprintln(os.Stderr, n)
				os.Exit(code)
			}
		}
	}
}

// numbered are count lines from number from on.
func numbered(from, count int) []byte {
	pad := append(bytes.Repeat([]byte{'.'}, 49), '\n')
	block := make([]byte, 0, count*60)
	for i := range count {
		block = append(fmt.Appendf(block, "%010d", from+i), pad...)
	}
	return block
}
