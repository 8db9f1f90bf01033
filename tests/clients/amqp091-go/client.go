package main

import (
	"fmt"
	"math/rand"
	"net"
	"reflect"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	durable   = true
	transient = false
)

// client opens connections, and remembers what to delete and close at the end.
//
// A method the broker refuses ends the case by a panic, which main reports.
type client struct {
	uri      string
	cleanups []func() error
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func expect(what string, expected, found any) error {
	if reflect.DeepEqual(expected, found) {
		return nil
	}
	return fmt.Errorf("expected %s %v, found %v", what, expected, found)
}

// channel opens a channel on a connection of its own.
func (client *client) channel() *amqp.Channel {
	connection, err := amqp.Dial(client.uri)
	must(err)
	client.atEnd(connection.Close)
	channel, err := connection.Channel()
	must(err)
	return channel
}

// doomedChannel opens a channel, and returns with it a function that loses its connection as a killed process
// does: the socket is gone, and no method says so.
func (client *client) doomedChannel() (*amqp.Channel, func()) {
	var socket net.Conn
	dial := func(network, address string) (conn net.Conn, err error) {
		socket, err = amqp.DefaultDial(10*time.Second)(network, address)
		return socket, err
	}
	connection, err := amqp.DialConfig(client.uri, amqp.Config{Dial: dial, Locale: "en_US"})
	must(err)
	channel, err := connection.Channel()
	must(err)
	return channel, func() { must(socket.Close()) }
}

func (client *client) queue(channel *amqp.Channel, label string, isDurable bool) string {
	queue, err := channel.QueueDeclare(named(label), isDurable, false, false, false, nil)
	must(err)
	client.atEnd(func() error {
		_, err := channel.QueueDelete(queue.Name, false, false, false)
		return err
	})
	return queue.Name
}

func (client *client) exchange(channel *amqp.Channel, label, kind string) string {
	name := named(label)
	must(channel.ExchangeDeclare(name, kind, false, false, false, false, nil))
	client.atEnd(func() error { return channel.ExchangeDelete(name, false, false) })
	return name
}

func (client *client) atEnd(cleanup func() error) {
	client.cleanups = append(client.cleanups, cleanup)
}

// close deletes and closes everything, the latest first.
func (client *client) close() error {
	for index := len(client.cleanups) - 1; index >= 0; index-- {
		if err := client.cleanups[index](); err != nil {
			return err
		}
	}
	return nil
}

// worker consumes one unacknowledged task at a time; the function it returns kills it.
func worker(client *client, queue string) (<-chan amqp.Delivery, func()) {
	channel, die := client.doomedChannel()
	must(channel.Qos(1, 0, false))
	return consume(channel, queue), die
}

func serverNamedQueue(channel *amqp.Channel, exchange string, bindingKeys ...string) string {
	queue, err := channel.QueueDeclare("", false, false, true, false, nil)
	must(err)
	for _, bindingKey := range bindingKeys {
		must(channel.QueueBind(queue.Name, bindingKey, exchange, false, nil))
	}
	return queue.Name
}

func publish(channel *amqp.Channel, exchange, routingKey string, message amqp.Publishing) {
	must(channel.Publish(exchange, routingKey, false, false, message))
}

func consume(channel *amqp.Channel, queue string) <-chan amqp.Delivery {
	deliveries, err := channel.Consume(queue, "", false, false, false, false, nil)
	must(err)
	return deliveries
}

// take waits for `count` deliveries and acknowledges each.
func take(deliveries <-chan amqp.Delivery, count int) []amqp.Delivery {
	var taken []amqp.Delivery
	for len(taken) < count {
		delivery, isOpen := <-deliveries
		if !isOpen {
			panic(fmt.Errorf("expected %d deliveries, found %d before the channel closed", count, len(taken)))
		}
		must(delivery.Ack(false))
		taken = append(taken, delivery)
	}
	return taken
}

func getAll(channel *amqp.Channel, queue string) []amqp.Delivery {
	var deliveries []amqp.Delivery
	for {
		delivery, isFound, err := channel.Get(queue, true)
		must(err)
		if !isFound {
			return deliveries
		}
		deliveries = append(deliveries, delivery)
	}
}

func getKeys(channel *amqp.Channel, queue string) []string {
	var keys []string
	for _, delivery := range getAll(channel, queue) {
		keys = append(keys, delivery.RoutingKey)
	}
	return keys
}

func messageCount(channel *amqp.Channel, queue string) int {
	state, err := channel.QueueDeclarePassive(queue, false, false, false, false, nil)
	must(err)
	return state.Messages
}

func bodies(deliveries []amqp.Delivery) []string {
	var texts []string
	for _, delivery := range deliveries {
		texts = append(texts, string(delivery.Body))
	}
	return texts
}

func without(texts []string, excluded string) []string {
	var kept []string
	for _, text := range texts {
		if text != excluded {
			kept = append(kept, text)
		}
	}
	return kept
}

func numbered(label string, count int) []string {
	var texts []string
	for number := 0; number < count; number++ {
		texts = append(texts, fmt.Sprint(label, " ", number))
	}
	return texts
}

func named(label string) string {
	return fmt.Sprintf("%s-%012x", label, rand.New(rand.NewSource(time.Now().UnixNano())).Int63n(1<<48))
}

func callOf(number int) string {
	return fmt.Sprint("call of ", number)
}

func fibonacci(number int) int {
	before, current := 0, 1
	for step := 0; step < number; step++ {
		before, current = current, before+current
	}
	return before
}
