import java.io.File;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.ApiResponse;
import org.openapitools.client.api.*;
import org.openapitools.client.model.*;

/** Three people and an event with one place, by what openapi-generator makes for Java. */
public class Book {
  static String url;

  static void must(boolean holds, String what, Object found) {
    if (!holds) throw new AssertionError("not so: " + what + ": " + found);
  }

  static void mustBegin(File file, String with) throws Exception {
    must(new String(Files.readAllBytes(file.toPath()), StandardCharsets.ISO_8859_1).startsWith(with), with, file);
    file.delete();
  }

  static ApiClient with(String credential) {
    ApiClient client = new ApiClient();
    client.updateBaseUri(url);
    if (credential != null) {
      client.setRequestInterceptor(to -> to.header("Authorization", "Bearer " + credential));
    }
    return client;
  }

  public static void main(String[] given) throws Exception {
    url = given[0];
    List<BookingsApi> people = new ArrayList<>();
    List<User> users = new ArrayList<>();
    ApiClient ada = null;
    for (String name : List.of("java-ada", "java-bob", "java-cleo")) {
      String password = "correct horse battery";
      users.add(new UsersApi(with(null)).register(new Register().username(name).password(password), null));
      Token token = new SessionsApi(with(null)).login(new Login().username(name).password(password), null);
      ApiClient client = with(token.getToken());
      if (ada == null) ada = client;
      people.add(new BookingsApi(client));
    }
    Event event = new EventsApi(ada).initializeEvent(new InitializeEvent().name("A concert").totalTickets(1), null);
    Long id = event.getId();
    for (int place = 0; place < 3; place++) {
      BookTicket wish = new BookTicket().eventId(id);
      ApiResponse<Booking> answer = people.get(place).bookTicketWithHttpInfo(wish, null);
      Booking booking = answer.getData();
      if (place == 0) {
        must(answer.getStatusCode() == 201, "made", answer.getStatusCode());
        must(booking.getStatus() == BookingStatus.BOOKING_STATUS_BOOKED, "booked", booking);
        must(booking.getPosition() == null && booking.getPromoted() == null, "null", booking);
      } else {
        must(answer.getStatusCode() == 202, "accepted", answer.getStatusCode());
        must(booking.getStatus() == BookingStatus.BOOKING_STATUS_WAITING, "waiting", booking);
        must(booking.getPosition() == place, "the position", booking);
      }
    }

    AttendancePage first = people.get(0).listEventBookings(id, null, null, 2, null);
    must(first.getItems().size() == 2, "the first page", first);
    AttendancePage rest = people.get(0).listEventBookings(id, null, null, 2, first.getNextCursor());
    must(rest.getItems().size() == 1 && rest.getNextCursor() == null, "the last page", rest);

    BookTicket again = new BookTicket().eventId(id).userId(users.get(0).getId());
    try {
      people.get(0).bookTicket(again, null);
      throw new AssertionError("booked twice");
    } catch (ApiException refused) {
      must(refused.getCode() == 409, "a conflict", refused);
      BookTicketProblem problem =
          ada.getObjectMapper().readValue(refused.getResponseBody(), BookTicketProblem.class);
      must(problem.getCode() == BookTicketProblemCode.BOOK_TICKET_ALREADY_BOOKED, "the code", problem);
    }

    Booking cancelled = people.get(0).cancelTicket(new CancelTicket().eventId(id), null);
    must(cancelled.getStatus() == BookingStatus.BOOKING_STATUS_CANCELLED, "cancelled", cancelled);
    must(cancelled.getPromoted() == 1, "promoted", cancelled);
    BookingPage mine = people.get(1).listMyBookings(null, null);
    must(mine.getItems().get(0).getStatus() == BookingStatus.BOOKING_STATUS_BOOKED, "promoted", mine);

    Booking one = people.get(0).bookTicket(again, "java-again");
    ApiResponse<Booking> two = people.get(0).bookTicketWithHttpInfo(again, "java-again");
    must(one.equals(two.getData()), "the same booking", two.getData());
    must(List.of("true").equals(two.getHeaders().get("idempotency-replayed")), "a replay", two.getHeaders());

    IssuedApiKey key =
        new KeysApi(ada).makeKey(new MakeKey().name("A program").addScopesItem(Scope.SCOPE_BOOKINGS_READ), null);
    BookingPage listed = new BookingsApi(with(key.getKey())).listMyBookings(null, null);
    must(listed.getItems().size() == 2, "what an API key reads", listed);

    TicketTypesApi types = new TicketTypesApi(ada);
    Long other = new EventsApi(ada).initializeEvent(new InitializeEvent().name("A play").totalTickets(9), null).getId();
    Quota hall = types.createQuota(other, new CreateQuota().name("The hall").capacity(5), null, null);
    CreateTicketType seat = new CreateTicketType().name("Seat").addQuotasItem(hall.getId());
    Long seats = types.createTicketType(other, seat, null, null).getId();
    TicketType renamed = types.updateTicketType(other, seats, new UpdateTicketType().name("Chair"), "*");
    must(renamed.getQuotas().equals(List.of(hall.getId())), "what a change leaves out", renamed);

    useDoor(ada);
  }

  /** Hold, confirm, follow the feed, and come in with the ticket. */
  static void useDoor(ApiClient ada) throws Exception {
    Long play = new EventsApi(ada).initializeEvent(new InitializeEvent().name("A dance").totalTickets(9), null).getId();
    CreateWebhook call =
        new CreateWebhook()
            .url("https://shop.example/ticketing")
            .eventId(play)
            .addTypesItem(FeedEventType.FEED_EVENT_TYPE_REFUND_RECORDED);
    IssuedWebhook webhook = new WebhooksApi(ada).createWebhook(call, null);
    must(webhook.getSecret().startsWith("whsec_"), "a secret", webhook);

    HoldsApi holds = new HoldsApi(ada);
    Hold hold = holds.createHold(new CreateHold().eventId(play), null);
    must(hold.getStatus() == BookingStatus.BOOKING_STATUS_HELD, "held", hold);
    must(hold.getExpiresAt().isAfter(hold.getServerTime()), "the end of the hold", hold);
    Booking confirmed = holds.confirmHold(hold.getId(), null, null);
    must(confirmed.getStatus() == BookingStatus.BOOKING_STATUS_BOOKED, "confirmed", confirmed);

    List<FeedEventType> happened = new ArrayList<>();
    String cursor = null;
    while (!happened.contains(FeedEventType.FEED_EVENT_TYPE_BOOKING_CONFIRMED)) {
      Feed page = new FeedApi(ada).readEventFeed(play, 1, cursor, 5);
      for (FeedEvent each : page.getItems()) happened.add(each.getType());
      cursor = page.getNextCursor();
    }

    TicketsApi tickets = new TicketsApi(ada);
    TicketDetails ticket = tickets.getTicket(tickets.listTickets(hold.getId()).getItems().get(0).getId());
    mustBegin(tickets.getTicketSvg(ticket.getId()), "<");
    mustBegin(tickets.getTicketPng(ticket.getId()), "\u0089PNG");
    mustBegin(tickets.getTicketsPdf(hold.getId(), null), "%PDF");

    for (Verdict verdict : List.of(Verdict.VERDICT_ADMITTED, Verdict.VERDICT_ALREADY_USED)) {
      RecordScan scan = new RecordScan().scanId(UUID.randomUUID()).code(ticket.getCode());
      CheckIn scanned = new DoorApi(ada).checkIn(play, scan);
      must(scanned.getVerdict() == verdict, "a scan", scanned);
    }
  }
}
