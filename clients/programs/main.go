// Three people and an event with one place, by what openapi-generator makes for Go.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"

	ticketing "ticketing"
)

func must(holds bool, what string, found ...any) {
	if !holds {
		fmt.Fprintln(os.Stderr, append([]any{"not so:", what}, found...)...)
		os.Exit(1)
	}
}

func problemOf(err error) *ticketing.BookTicketProblem {
	var failed *ticketing.GenericOpenAPIError
	must(errors.As(err, &failed), "an error of the API", err)
	problem, is := failed.Model().(ticketing.BookTicketProblem)
	must(is, "a problem of the route", failed.Model())
	return &problem
}

func begins(file *os.File, with string) bool {
	content, err := os.ReadFile(file.Name())
	os.Remove(file.Name())
	return err == nil && bytes.HasPrefix(content, []byte(with))
}

func uuid() string {
	made := make([]byte, 16)
	rand.Read(made)
	return fmt.Sprintf("%x-%x-%x-%x-%x", made[:4], made[4:6], made[6:8], made[8:10], made[10:])
}

func main() {
	settings := ticketing.NewConfiguration()
	settings.Servers = ticketing.ServerConfigurations{{URL: os.Args[1]}}
	api := ticketing.NewAPIClient(settings)
	nobody := context.Background()
	people := []context.Context{}
	ids := []string{}
	for _, name := range []string{"go-ada", "go-bob", "go-cleo"} {
		password := "correct horse battery"
		user, _, err := api.UsersAPI.Register(nobody).Register(*ticketing.NewRegister(name, password)).Execute()
		must(err == nil, "register", err)
		token, _, err := api.SessionsAPI.Login(nobody).Login(*ticketing.NewLogin(name, password)).Execute()
		must(err == nil, "login", err)
		people = append(people, context.WithValue(nobody, ticketing.ContextAccessToken, token.Token))
		ids = append(ids, user.Id)
	}
	ada, bob := people[0], people[1]

	event, _, err := api.EventsAPI.InitializeEvent(ada).InitializeEvent(*ticketing.NewInitializeEvent("A concert", 1)).Execute()
	must(err == nil, "initialize", err)
	for place, person := range people {
		booking, response, err := api.BookingsAPI.BookTicket(person).BookTicket(*ticketing.NewBookTicket(event.Id)).Execute()
		must(err == nil, "book", err)
		if place == 0 {
			must(response.StatusCode == 201 && booking.Status == ticketing.BOOKING_STATUS_BOOKED, "booked", booking)
			must(booking.Position.Get() == nil && booking.Promoted.Get() == nil, "null", booking)
		} else {
			must(response.StatusCode == 202 && booking.Status == ticketing.BOOKING_STATUS_WAITING, "waiting", booking)
			must(*booking.Position.Get() == int64(place), "the position", booking)
		}
	}

	first, _, err := api.BookingsAPI.ListEventBookings(ada, event.Id).Limit(2).Execute()
	must(err == nil && len(first.Items) == 2, "the first page", err)
	rest, _, err := api.BookingsAPI.ListEventBookings(ada, event.Id).Limit(2).Cursor(*first.NextCursor.Get()).Execute()
	must(err == nil && len(rest.Items) == 1 && rest.NextCursor.Get() == nil, "the last page", err)

	again := *ticketing.NewBookTicket(event.Id)
	again.SetUserId(ids[0])
	_, response, err := api.BookingsAPI.BookTicket(ada).BookTicket(again).Execute()
	must(response.StatusCode == 409, "a conflict", err)
	must(problemOf(err).Code == ticketing.BOOK_TICKET_ALREADY_BOOKED, "the code", err)

	cancelled, _, err := api.BookingsAPI.CancelTicket(ada).CancelTicket(*ticketing.NewCancelTicket(event.Id)).Execute()
	must(err == nil && cancelled.Status == ticketing.BOOKING_STATUS_CANCELLED, "cancelled", err)
	must(*cancelled.Promoted.Get() == 1, "promoted", cancelled)
	mine, _, err := api.BookingsAPI.ListMyBookings(bob).Execute()
	must(err == nil && mine.Items[0].Status == ticketing.BOOKING_STATUS_BOOKED, "promoted", err)

	one, _, err := api.BookingsAPI.BookTicket(ada).BookTicket(again).IdempotencyKey("go-again").Execute()
	must(err == nil, "book with a key", err)
	two, response, err := api.BookingsAPI.BookTicket(ada).BookTicket(again).IdempotencyKey("go-again").Execute()
	must(err == nil && one.Id == two.Id, "the same booking", err)
	must(response.Header.Get("Idempotency-Replayed") == "true", "a replay")

	key, _, err := api.KeysAPI.MakeKey(ada).MakeKey(*ticketing.NewMakeKey("A program", []ticketing.Scope{ticketing.SCOPE_BOOKINGS_READ})).Execute()
	must(err == nil, "an API key", err)
	program := context.WithValue(nobody, ticketing.ContextAccessToken, key.Key)
	listed, _, err := api.BookingsAPI.ListMyBookings(program).Execute()
	must(err == nil && len(listed.Items) == 2, "what an API key reads", err)

	play, _, err := api.EventsAPI.InitializeEvent(ada).InitializeEvent(*ticketing.NewInitializeEvent("A play", 9)).Execute()
	must(err == nil, "initialize", err)
	call := *ticketing.NewCreateWebhook("https://shop.example/ticketing")
	call.SetEventId(play.Id)
	call.SetTypes([]ticketing.FeedEventType{ticketing.FEED_EVENT_TYPE_REFUND_RECORDED})
	webhook, _, err := api.WebhooksAPI.CreateWebhook(ada).CreateWebhook(call).Execute()
	must(err == nil && len(webhook.Secret) > len("whsec_"), "a webhook", err)

	hold, _, err := api.HoldsAPI.CreateHold(ada).CreateHold(*ticketing.NewCreateHold(play.Id)).Execute()
	must(err == nil && hold.Status == ticketing.BOOKING_STATUS_HELD, "held", err)
	must(hold.ExpiresAt.Get().After(hold.ServerTime), "the end of the hold", hold)
	confirmed, _, err := api.HoldsAPI.ConfirmHold(ada, hold.Id).Execute()
	must(err == nil && confirmed.Status == ticketing.BOOKING_STATUS_BOOKED, "confirmed", err)

	happened := []ticketing.FeedEventType{}
	feed, _, err := api.FeedAPI.ReadEventFeed(ada, play.Id).Limit(1).Execute()
	must(err == nil, "the feed", err)
	for !slices.Contains(happened, ticketing.FEED_EVENT_TYPE_BOOKING_CONFIRMED) {
		for _, each := range feed.Items {
			happened = append(happened, each.Type)
		}
		feed, _, err = api.FeedAPI.ReadEventFeed(ada, play.Id).Limit(1).Wait(5).Cursor(*feed.NextCursor.Get()).Execute()
		must(err == nil, "the feed", err)
	}

	tickets, _, err := api.TicketsAPI.ListTickets(ada, hold.Id).Execute()
	must(err == nil && len(tickets.Items) == 1, "tickets", err)
	ticket, _, err := api.TicketsAPI.GetTicket(ada, tickets.Items[0].Id).Execute()
	must(err == nil, "a ticket", err)
	svg, _, err := api.TicketsAPI.GetTicketSvg(ada, ticket.Id).Execute()
	must(err == nil && begins(svg, "<"), "SVG", err)
	png, _, err := api.TicketsAPI.GetTicketPng(ada, ticket.Id).Execute()
	must(err == nil && begins(png, "\x89PNG"), "PNG", err)
	pdf, _, err := api.TicketsAPI.GetTicketsPdf(ada, hold.Id).Execute()
	must(err == nil && begins(pdf, "%PDF"), "PDF", err)

	for _, verdict := range []ticketing.Verdict{ticketing.VERDICT_ADMITTED, ticketing.VERDICT_ALREADY_USED} {
		scan := *ticketing.NewRecordScan(uuid())
		scan.SetCode(*ticket.Code.Get())
		scanned, _, err := api.DoorAPI.CheckIn(ada, play.Id).RecordScan(scan).Execute()
		must(err == nil && scanned.Verdict == verdict, "a scan", err, scanned)
	}
}
