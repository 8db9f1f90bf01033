// The eight programs of tests/clients with amqp091-go: cases URI CASE.
package main

import (
	"fmt"
	"os"
	"time"
)

const deadline = 20 * time.Second

func main() {
	uri, name := os.Args[1], os.Args[2]
	start := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- run(cases[name], uri) }()
	select {
	case err := <-ended:
		if err != nil {
			fail(name, err)
		}
		fmt.Printf("ok %s %.3fs\n", name, time.Since(start).Seconds())
	case <-time.After(deadline):
		fail(name, fmt.Errorf("expected an end within %v, found none", deadline))
	}
}

func run(program func(*client) error, uri string) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%v", reason)
		}
	}()
	client := &client{uri: uri}
	if err := program(client); err != nil {
		return err
	}
	return client.close()
}

func fail(name string, err error) {
	fmt.Printf("FAILED %s: %v\n", name, err)
	os.Exit(1)
}
