package main

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// pause is the process that holds a Pod's namespaces: it waits to be ended and reaps what is left to it.
func pause() error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGCHLD)
	for s := range signals {
		if s != unix.SIGCHLD {
			return nil
		}
		for {
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
	return nil
}
