package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"sort"
	"strings"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
)

// act is something to do with a group; which fields count depends on what.
type act struct {
	Do      string
	Group   types.JID
	Subject string
	Members []string
	Change  whatsmeow.ParticipantChange
	Text    string
	On      bool
	Reset   bool
	Code    string
	JPEG    string
}

func (t *teller) act(ctx context.Context, client *whatsmeow.Client, a *act) {
	fields, err := a.perform(ctx, client)
	if err != nil {
		refused := map[string]any{"do": a.Do, "error": err.Error()}
		var answer *whatsmeow.IQError
		if errors.As(err, &answer) {
			refused["code"] = answer.Code
		}
		t.say("refused", refused)
		return
	}
	if fields == nil {
		fields = map[string]any{}
	}
	fields["do"] = a.Do
	t.say("done", fields)
}

func (a *act) perform(ctx context.Context, client *whatsmeow.Client) (map[string]any, error) {
	switch a.Do {
	case "create":
		group, err := client.CreateGroup(ctx, whatsmeow.ReqCreateGroup{Name: a.Subject, Participants: a.people()})
		if err != nil {
			return nil, err
		}
		return map[string]any{"group": group.JID.String()}, nil
	case "members":
		people, err := client.UpdateGroupParticipants(ctx, a.Group, a.people(), a.Change)
		if err != nil {
			return nil, err
		}
		outcomes := []int{}
		for _, person := range people {
			if person.Error == 0 {
				person.Error = 200
			}
			outcomes = append(outcomes, person.Error)
		}
		return map[string]any{"outcomes": outcomes}, nil
	case "subject":
		return nil, client.SetGroupName(ctx, a.Group, a.Text)
	case "description":
		return nil, client.SetGroupTopic(ctx, a.Group, "", "", a.Text)
	case "picture":
		jpeg, err := base64.StdEncoding.DecodeString(a.JPEG)
		if err != nil {
			return nil, err
		}
		_, err = client.SetGroupPhoto(ctx, a.Group, jpeg)
		return nil, err
	case "announce":
		return nil, client.SetGroupAnnounce(ctx, a.Group, a.On)
	case "locked":
		return nil, client.SetGroupLocked(ctx, a.Group, a.On)
	case "invite":
		link, err := client.GetGroupInviteLink(ctx, a.Group, a.Reset)
		return map[string]any{"code": strings.TrimPrefix(link, whatsmeow.InviteLinkPrefix)}, err
	case "join":
		group, err := client.JoinGroupWithLink(ctx, a.Code)
		return map[string]any{"group": group.String()}, err
	case "leave":
		return nil, client.LeaveGroup(ctx, a.Group)
	case "show":
		return show(ctx, client, a.Group)
	}
	return nil, fmt.Errorf("%q is nothing to do with a group", a.Do)
}

func (a *act) people() []types.JID {
	people := make([]types.JID, len(a.Members))
	for at, number := range a.Members {
		people[at] = types.NewJID(number, types.DefaultUserServer)
	}
	return people
}

// show is the group as whatsmeow knows it.
func show(ctx context.Context, client *whatsmeow.Client, group types.JID) (map[string]any, error) {
	known, err := client.GetGroupInfo(ctx, group)
	if err != nil {
		return nil, err
	}
	type member struct {
		Number string `json:"number"`
		Rank   string `json:"rank"`
	}
	members := make([]member, len(known.Participants))
	for at, person := range known.Participants {
		members[at] = member{person.PhoneNumber.User, "member"}
		if person.IsSuperAdmin {
			members[at].Rank = "superadmin"
		} else if person.IsAdmin {
			members[at].Rank = "admin"
		}
	}
	sort.Slice(members, func(one, other int) bool { return members[one].Number < members[other].Number })
	return map[string]any{
		"subject":     known.Name,
		"description": known.Topic,
		"announce":    known.IsAnnounce,
		"locked":      known.IsLocked,
		"by_lid":      known.AddressingMode == types.AddressingModeLID,
		"members":     members,
	}, nil
}

func (t *teller) tellJoined(ctx context.Context, client *whatsmeow.Client, event *events.JoinedGroup) {
	t.say("group", map[string]any{
		"group": event.JID.String(), "what": "create", "text": event.Name,
		"by": someone(ctx, client, event.Sender, event.SenderPN),
	})
}

func (t *teller) tellChange(ctx context.Context, client *whatsmeow.Client, event *events.GroupInfo) {
	tell := func(what string, fields map[string]any) {
		fields["group"] = event.JID.String()
		fields["what"] = what
		fields["by"] = someone(ctx, client, event.Sender, event.SenderPN)
		t.say("group", fields)
	}
	changes := map[string][]types.JID{
		"add": event.Join, "remove": event.Leave, "promote": event.Promote, "demote": event.Demote,
	}
	for what, people := range changes {
		if len(people) == 0 {
			continue
		}
		numbers := make([]string, len(people))
		for at, jid := range people {
			numbers[at] = number(ctx, client, jid)
		}
		tell(what, map[string]any{"members": numbers})
	}
	if event.Name != nil {
		tell("subject", map[string]any{"text": event.Name.Name})
	}
	if event.Topic != nil {
		tell("description", map[string]any{"text": event.Topic.Topic})
	}
	if event.Announce != nil {
		tell("announce", map[string]any{"on": event.Announce.IsAnnounce})
	}
	if event.Locked != nil {
		tell("locked", map[string]any{"on": event.Locked.IsLocked})
	}
	if event.NewInviteLink != nil {
		tell("invite", map[string]any{"text": strings.TrimPrefix(*event.NewInviteLink, whatsmeow.InviteLinkPrefix)})
	}
}

// someone is the number of somebody who may be named twice or not at all.
func someone(ctx context.Context, client *whatsmeow.Client, names ...*types.JID) string {
	known := []types.JID{}
	for _, name := range names {
		if name != nil {
			known = append(known, *name)
		}
	}
	if len(known) == 0 {
		return ""
	}
	return number(ctx, client, known...)
}
