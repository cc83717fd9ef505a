package main

import (
	"context"
	"encoding/hex"
	"fmt"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"
)

// expression is something to say that is no text; which fields count depends on the kind.
type expression struct {
	To, Kind            string
	Latitude, Longitude float64
	Name, Vcard         string
	ID, Emoji, Text     string
	Question            string
	Options             []string
	fileToSend
	Currency, Note string
	Thousandths    uint64
	Payer          string
}

func (t *teller) express(ctx context.Context, client *whatsmeow.Client, e *expression) {
	to := chat(e.To)
	content, err := t.built(ctx, client, to, e)
	if err == nil {
		var sent whatsmeow.SendResponse
		if sent, err = client.SendMessage(ctx, to, content); err == nil {
			t.lock.Lock()
			t.heard[sent.ID] = &events.Message{Message: content, Info: types.MessageInfo{
				ID:            sent.ID,
				MessageSource: types.MessageSource{Chat: to, Sender: sent.Sender, IsFromMe: true},
			}}
			t.lock.Unlock()
			t.say("sent", map[string]any{"id": sent.ID, "kind": e.Kind})
			return
		}
	}
	t.say("failed", map[string]any{"kind": e.Kind, "error": err.Error()})
}

// built is what whatsmeow is to send.
func (t *teller) built(ctx context.Context, client *whatsmeow.Client, to types.JID, e *expression) (*waE2E.Message, error) {
	t.lock.Lock()
	about := t.heard[e.ID]
	t.lock.Unlock()
	switch e.Kind {
	case "location":
		return &waE2E.Message{LocationMessage: &waE2E.LocationMessage{
			DegreesLatitude: &e.Latitude, DegreesLongitude: &e.Longitude, Name: &e.Name,
		}}, nil
	case "contact":
		return &waE2E.Message{ContactMessage: &waE2E.ContactMessage{DisplayName: &e.Name, Vcard: &e.Vcard}}, nil
	case "image", "video", "audio", "document", "sticker":
		return left(ctx, client, e.Kind, &e.fileToSend)
	case "poll":
		return client.BuildPollCreation(e.Question, e.Options, 1), nil
	case "edit":
		return client.BuildEdit(to, e.ID, &waE2E.Message{Conversation: proto.String(e.Text)}), nil
	case "revoke":
		return client.BuildRevoke(to, types.EmptyJID, e.ID), nil
	case "payment_request":
		return requestForMoney(e), nil
	}
	if about == nil {
		return nil, fmt.Errorf("nothing is known of %s", e.ID)
	}
	switch e.Kind {
	case "reaction":
		return client.BuildReaction(to, about.Info.Sender, e.ID, e.Emoji), nil
	case "vote":
		return client.BuildPollVote(ctx, &about.Info, e.Options)
	case "decline_payment":
		key := client.BuildMessageKey(to, about.Info.Sender, e.ID)
		return &waE2E.Message{DeclinePaymentRequestMessage: &waE2E.DeclinePaymentRequestMessage{Key: key}}, nil
	case "cancel_payment":
		key := client.BuildMessageKey(to, about.Info.Sender, e.ID)
		return &waE2E.Message{CancelPaymentRequestMessage: &waE2E.CancelPaymentRequestMessage{Key: key}}, nil
	}
	return nil, fmt.Errorf("no kind %s", e.Kind)
}

// requestForMoney is for the user who is named, whatever the chat.
func requestForMoney(e *expression) *waE2E.Message {
	value := int64(e.Thousandths)
	return &waE2E.Message{RequestPaymentMessage: &waE2E.RequestPaymentMessage{
		NoteMessage:         &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: &e.Note}},
		CurrencyCodeIso4217: &e.Currency,
		Amount1000:          &e.Thousandths,
		RequestFrom:         proto.String(types.NewJID(e.Payer, types.DefaultUserServer).String()),
		Amount:              &waE2E.Money{Value: &value, Offset: proto.Uint32(1000), CurrencyCode: &e.Currency},
	}}
}

// tellContent tells what a message says that is no text, and keeps the message.
func (t *teller) tellContent(ctx context.Context, client *whatsmeow.Client, event *events.Message) {
	t.lock.Lock()
	t.heard[event.Info.ID] = event
	t.lock.Unlock()
	tell := func(kind string, fields map[string]any) {
		fields["id"], fields["kind"], fields["from_me"] = event.Info.ID, kind, event.Info.IsFromMe
		t.say("content", fields)
	}
	message := event.Message
	if place := message.GetLocationMessage(); place != nil {
		tell("location", map[string]any{
			"latitude": place.GetDegreesLatitude(), "longitude": place.GetDegreesLongitude(), "name": place.GetName(),
		})
	}
	if card := message.GetContactMessage(); card != nil {
		tell("contact", map[string]any{"name": card.GetDisplayName(), "vcard": card.GetVcard()})
	}
	if reaction := message.GetReactionMessage(); reaction != nil {
		tell("reaction", map[string]any{"about": reaction.GetKey().GetID(), "emoji": reaction.GetText()})
	}
	if poll := asked(message); poll != nil {
		tell("poll", map[string]any{"question": poll.GetName(), "options": names(poll)})
	}
	if vote := message.GetPollUpdateMessage(); vote != nil {
		about := vote.GetPollCreationMessageKey().GetID()
		tell("vote", map[string]any{"about": about, "options": t.chosen(ctx, client, event, about)})
	}
	if file, kind := fileOf(message); file != nil {
		// It takes a while, and meanwhile other things happen.
		go tellFile(ctx, client, event, file, func(fields map[string]any) { tell(kind, fields) })
	}
	if request := message.GetRequestPaymentMessage(); request != nil {
		tell("payment_request", map[string]any{
			"currency": request.GetCurrencyCodeIso4217(), "thousandths": request.GetAmount1000(),
			"note":  request.GetNoteMessage().GetExtendedTextMessage().GetText(),
			"value": request.GetAmount().GetValue(), "divisor": request.GetAmount().GetOffset(),
		})
	}
	if decline := message.GetDeclinePaymentRequestMessage(); decline != nil {
		tell("decline_payment", map[string]any{"about": decline.GetKey().GetID()})
	}
	if cancel := message.GetCancelPaymentRequestMessage(); cancel != nil {
		tell("cancel_payment", map[string]any{"about": cancel.GetKey().GetID()})
	}
	change := message.GetProtocolMessage()
	about := change.GetKey().GetID()
	switch {
	case change == nil:
	case change.GetType() == waE2E.ProtocolMessage_REVOKE:
		tell("revoke", map[string]any{"about": about})
	case change.GetType() == waE2E.ProtocolMessage_MESSAGE_EDIT:
		edited := change.GetEditedMessage()
		text := edited.GetConversation()
		if text == "" {
			text = edited.GetExtendedTextMessage().GetText()
		}
		tell("edit", map[string]any{"about": about, "text": text})
	}
}

// asked is the poll of a message, if it is one.
func asked(message *waE2E.Message) *waE2E.PollCreationMessage {
	for _, poll := range []*waE2E.PollCreationMessage{
		message.GetPollCreationMessage(), message.GetPollCreationMessageV2(), message.GetPollCreationMessageV3(),
	} {
		if poll != nil {
			return poll
		}
	}
	return nil
}

func names(poll *waE2E.PollCreationMessage) []string {
	var names []string
	for _, option := range poll.GetOptions() {
		names = append(names, option.GetOptionName())
	}
	return names
}

// chosen are the names of the options that a vote is for.
func (t *teller) chosen(ctx context.Context, client *whatsmeow.Client, event *events.Message, about string) []string {
	vote, err := client.DecryptPollVote(ctx, event)
	t.lock.Lock()
	poll := t.heard[about]
	t.lock.Unlock()
	if err != nil || poll == nil {
		return nil
	}
	picked := map[string]bool{}
	for _, hash := range vote.GetSelectedOptions() {
		picked[hex.EncodeToString(hash)] = true
	}
	var chosen []string
	for _, name := range names(asked(poll.Message)) {
		if picked[hex.EncodeToString(whatsmeow.HashPollOptions([]string{name})[0])] {
			chosen = append(chosen, name)
		}
	}
	return chosen
}
