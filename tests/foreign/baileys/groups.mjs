// What the stories do with groups, and what Baileys tells of them; see ../README.md.

const number = name => name?.split('@')[0].split(':')[0]

const isNumber = name => name?.endsWith('@s.whatsapp.net')

/** Baileys names people of a group by LID and tells their number only with the group: LID to number. */
const known = new Map()

/** The number of one person by whatever names. */
const person = (...names) => number(names.find(isNumber)) ?? known.get(number(names.find(Boolean)))

const people = participants => {
	for (const { id, phoneNumber } of participants) {
		if (phoneNumber) {
			known.set(number(id), number(phoneNumber))
		}
	}
	return participants.map(({ id, phoneNumber }) => person(id, phoneNumber))
}

const jid = number => `${number}@s.whatsapp.net`

const onOff = (on, words) => words[on ? 0 : 1]

/** What can be done, by name; answers with what there is to say. */
const ACTS = {
	create: async (socket, { subject, members }) => {
		const { id } = await socket.groupCreate(subject, members.map(jid))
		return { group: id }
	},
	members: async (socket, { group, change, members }) => {
		const outcomes = await socket.groupParticipantsUpdate(group, members.map(jid), change)
		return { outcomes: outcomes.map(({ status }) => Number(status)) }
	},
	subject: (socket, { group, text }) => socket.groupUpdateSubject(group, text),
	description: (socket, { group, text }) => socket.groupUpdateDescription(group, text || undefined),
	picture: (socket, { group, jpeg }) => socket.groupQueryPicture(group, Buffer.from(jpeg, 'base64')),
	announce: (socket, { group, on }) =>
		socket.groupSettingUpdate(group, onOff(on, ['announcement', 'not_announcement'])),
	locked: (socket, { group, on }) => socket.groupSettingUpdate(group, onOff(on, ['locked', 'unlocked'])),
	invite: async (socket, { group, reset }) => ({
		code: await (reset ? socket.groupRevokeInvite(group) : socket.groupInviteCode(group)),
	}),
	join: async (socket, { code }) => ({ group: await socket.groupAcceptInvite(code) }),
	leave: (socket, { group }) => socket.groupLeave(group),
	show: async (socket, { group }) => {
		const shown = await socket.groupMetadata(group)
		return {
			subject: shown.subject,
			description: shown.desc ?? '',
			announce: shown.announce,
			locked: shown.restrict,
			by_lid: shown.addressingMode === 'lid',
			members: shown.participants
				.map(({ id, phoneNumber, admin }) => ({ number: person(id, phoneNumber), rank: admin ?? 'member' }))
				.sort((one, other) => one.number.localeCompare(other.number)),
		}
	},
}

/** Baileys takes pictures only with an image library, which it asks for in vain here; this is the request it makes. */
const pictures = socket => ({
	...socket,
	groupQueryPicture: (group, content) =>
		socket.query({
			tag: 'iq',
			attrs: { target: group, to: '@s.whatsapp.net', type: 'set', xmlns: 'w:profile:picture' },
			content: [{ tag: 'picture', attrs: { type: 'image' }, content }],
		}),
})

export async function act(socket, { do: what, ...how }) {
	return (await ACTS[what](pictures(socket), how)) ?? {}
}

/** Tells what happens in groups. */
export function listen(socket, say) {
	const tell = (group, what, fields) => say('group', { group, what, ...fields })
	socket.ev.on('groups.upsert', groups => {
		for (const { id, subject, author, authorPn, participants } of groups) {
			people(participants)
			tell(id, 'create', { by: person(author, authorPn), text: subject })
		}
	})
	socket.ev.on('group-participants.update', ({ id, author, authorPn, participants, action }) => {
		const members = people(participants)
		tell(id, action, { by: person(author, authorPn), members })
	})
	socket.ev.on('groups.update', updates => {
		for (const { id, author, authorPn, ...update } of updates) {
			const by = person(author, authorPn)
			if (!by) {
				continue
			}
			// Baileys makes one of several that come together.
			if ('subject' in update) {
				tell(id, 'subject', { by, text: update.subject })
			}
			if ('desc' in update) {
				tell(id, 'description', { by, text: update.desc ?? '' })
			}
			if ('announce' in update) {
				tell(id, 'announce', { by, on: update.announce })
			}
			if ('restrict' in update) {
				tell(id, 'locked', { by, on: update.restrict })
			}
			if ('inviteCode' in update) {
				tell(id, 'invite', { by, text: update.inviteCode })
			}
		}
	})
}
