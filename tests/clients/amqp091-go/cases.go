package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand"
	"strconv"

	amqp "github.com/rabbitmq/amqp091-go"
)

var cases = map[string]func(*client) error{
	"hello":    hello,
	"work":     work,
	"pubsub":   pubsub,
	"routing":  routing,
	"topics":   topics,
	"rpc":      rpc,
	"confirms": confirms,
	"large":    large,
}

func hello(client *client) error {
	channel := client.channel()
	queue := client.queue(channel, "hello", transient)
	publish(channel, "", queue, amqp.Publishing{Body: []byte("Hello World!")})
	delivery := take(consume(channel, queue), 1)[0]
	return expect("body", "Hello World!", string(delivery.Body))
}

func work(client *client) error {
	channel := client.channel()
	queue := client.queue(channel, "work", durable)
	slow, dieSlow := worker(client, queue)
	fast, _ := worker(client, queue)
	tasks := numbered("task", 12)
	for _, task := range tasks {
		publish(channel, "", queue, amqp.Publishing{Body: []byte(task), DeliveryMode: amqp.Persistent})
	}

	held := string((<-slow).Body)
	done := bodies(take(fast, len(tasks)-1))
	if err := expect("tasks of the fast worker", without(tasks, held), done); err != nil {
		return err
	}
	dieSlow()
	again := take(fast, 1)[0]
	expected := fmt.Sprint(held, " redelivered true")
	if err := expect("last task", expected, fmt.Sprint(string(again.Body), " redelivered ", again.Redelivered)); err != nil {
		return err
	}
	return expect("messages left", 0, messageCount(channel, queue))
}

func pubsub(client *client) error {
	channel := client.channel()
	exchange := client.exchange(channel, "pubsub", amqp.ExchangeFanout)
	var subscribers []<-chan amqp.Delivery
	for range []int{1, 2} {
		subscribers = append(subscribers, consume(channel, serverNamedQueue(channel, exchange, "")))
	}
	messages := numbered("message", 3)
	for _, message := range messages {
		publish(channel, exchange, "ignored", amqp.Publishing{Body: []byte(message)})
	}
	for _, subscriber := range subscribers {
		if err := expect("messages of a subscriber", messages, bodies(take(subscriber, len(messages)))); err != nil {
			return err
		}
	}
	return nil
}

func routing(client *client) error {
	channel := client.channel()
	exchange := client.exchange(channel, "routing", amqp.ExchangeDirect)
	errors := serverNamedQueue(channel, exchange, "error")
	everything := serverNamedQueue(channel, exchange, "info", "warning", "error")
	for _, severity := range []string{"info", "warning", "error", "debug"} {
		publish(channel, exchange, severity, amqp.Publishing{Body: []byte(severity)})
	}
	if err := expect("errors", []string{"error"}, bodies(getAll(channel, errors))); err != nil {
		return err
	}
	return expect("all severities", []string{"info", "warning", "error"}, bodies(getAll(channel, everything)))
}

func topics(client *client) error {
	keys := []string{
		"quick.orange.rabbit", "lazy.orange.elephant", "quick.orange.fox", "lazy.brown.fox", "lazy.pink.rabbit",
		"quick.brown.fox", "orange", "quick.orange.new.rabbit", "lazy.orange.new.rabbit", "lazy",
	}
	channel := client.channel()
	exchange := client.exchange(channel, "topics", amqp.ExchangeTopic)
	orange := serverNamedQueue(channel, exchange, "*.orange.*")
	rabbitsAndLazy := serverNamedQueue(channel, exchange, "*.*.rabbit", "lazy.#")
	everything := serverNamedQueue(channel, exchange, "#")
	for _, key := range keys {
		publish(channel, exchange, key, amqp.Publishing{})
	}
	if err := expect("keys that match *.orange.*", keys[0:3], getKeys(channel, orange)); err != nil {
		return err
	}
	lazy := []string{keys[0], keys[1], keys[3], keys[4], keys[8], keys[9]}
	if err := expect("keys that match *.*.rabbit or lazy.#", lazy, getKeys(channel, rabbitsAndLazy)); err != nil {
		return err
	}
	return expect("keys that match #", keys, getKeys(channel, everything))
}

func rpc(client *client) error {
	server, caller := client.channel(), client.channel()
	queue := client.queue(server, "rpc", transient)
	replyTo := serverNamedQueue(caller, "")
	requests, replies := consume(server, queue), consume(caller, replyTo)
	for _, number := range []int{10, 15, 20} {
		call := amqp.Publishing{Body: []byte(strconv.Itoa(number)), ReplyTo: replyTo, CorrelationId: callOf(number)}
		publish(caller, "", queue, call)
	}
	for _, request := range take(requests, 3) {
		number, err := strconv.Atoi(string(request.Body))
		if err != nil {
			return err
		}
		answer := amqp.Publishing{Body: []byte(strconv.Itoa(fibonacci(number))), CorrelationId: request.CorrelationId}
		publish(server, "", request.ReplyTo, answer)
	}
	answers := map[string]string{}
	for _, reply := range take(replies, 3) {
		answers[reply.CorrelationId] = string(reply.Body)
	}
	return expect("answers", map[string]string{callOf(10): "55", callOf(15): "610", callOf(20): "6765"}, answers)
}

func confirms(client *client) error {
	channel := client.channel()
	queue := client.queue(channel, "confirms", durable)
	must(channel.Confirm(false))
	acks := channel.NotifyPublish(make(chan amqp.Confirmation, 1000))
	for number := 0; number < 1000; number++ {
		message := amqp.Publishing{Body: []byte(strconv.Itoa(number)), DeliveryMode: amqp.Persistent}
		publish(channel, "", queue, message)
	}
	for number := 0; number < 1000; number++ {
		if confirmation := <-acks; !confirmation.Ack {
			return fmt.Errorf("expected an ack for message %d, found a nack", confirmation.DeliveryTag)
		}
	}
	if err := expect("messages in the queue", 1000, messageCount(channel, queue)); err != nil {
		return err
	}
	// Both channels have no buffer, so the library hands over what it reads in the order it reads it.
	channel = client.channel()
	must(channel.Confirm(false))
	events := eventsOfUnroutable(channel, queue+"-nowhere")
	return expect("events of an unroutable message", []string{"return 312 NO_ROUTE", "ack"}, events)
}

func eventsOfUnroutable(channel *amqp.Channel, routingKey string) []string {
	returns := channel.NotifyReturn(make(chan amqp.Return))
	acks := channel.NotifyPublish(make(chan amqp.Confirmation))
	must(channel.Publish("", routingKey, true, false, amqp.Publishing{Body: []byte("lost")}))
	var events []string
	for len(events) == 0 || events[len(events)-1] != "ack" {
		select {
		case returned := <-returns:
			events = append(events, fmt.Sprintf("return %d %s", returned.ReplyCode, returned.ReplyText))
		case confirmation := <-acks:
			events = append(events, map[bool]string{true: "ack", false: "nack"}[confirmation.Ack])
		}
	}
	return events
}

func large(client *client) error {
	body := make([]byte, 10<<20)
	rand.New(rand.NewSource(1)).Read(body)
	channel := client.channel()
	queue := client.queue(channel, "large", durable)
	must(channel.Confirm(false))
	acks := channel.NotifyPublish(make(chan amqp.Confirmation, 1))
	publish(channel, "", queue, amqp.Publishing{Body: body, DeliveryMode: amqp.Persistent})
	if confirmation := <-acks; !confirmation.Ack {
		return fmt.Errorf("expected an ack, found a nack")
	}
	delivery := take(consume(channel, queue), 1)[0]
	if err := expect("size", len(body), len(delivery.Body)); err != nil {
		return err
	}
	expected, found := sha256.Sum256(body), sha256.Sum256(delivery.Body)
	if !bytes.Equal(expected[:], found[:]) {
		return fmt.Errorf("expected SHA-256 %x, found %x", expected, found)
	}
	return nil
}
