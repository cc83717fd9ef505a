// What the stories say beside texts, and what Baileys makes of such messages; see ../README.md.

import { createHash } from 'node:crypto'

import { decryptPollVote, jidNormalizedUser, WAMessageStubType } from '@whiskeysockets/baileys'

import { FILES, tellFile } from './files.mjs'

const user = jid => jid?.split('@')[0].split(':')[0]

/** What each kind is for Baileys. `key` finds the key of a message by its id. */
const KINDS = {
	...FILES,
	location: ({ latitude, longitude, name }) => ({
		location: { degreesLatitude: latitude, degreesLongitude: longitude, name },
	}),
	contact: ({ name, vcard }) => ({ contacts: { displayName: name, contacts: [{ displayName: name, vcard }] } }),
	reaction: ({ id, emoji }, key) => ({ react: { text: emoji, key: key(id) } }),
	poll: ({ question, options }) => ({ poll: { name: question, values: options, selectableCount: 1 } }),
	edit: ({ id, text }, key) => ({ edit: key(id), text }),
	revoke: ({ id }, key) => ({ delete: key(id) }),
}

/** What Baileys has no words of its own for, as WhatsApp writes it. */
const RAW = {
	payment_request: ({ currency, thousandths, note, payer }) => ({
		requestPaymentMessage: {
			noteMessage: { extendedTextMessage: { text: note } },
			currencyCodeIso4217: currency,
			amount1000: thousandths,
			requestFrom: `${payer}@s.whatsapp.net`,
			amount: { value: thousandths, offset: 1000, currencyCode: currency },
		},
	}),
	decline_payment: ({ id }, key) => ({ declinePaymentRequestMessage: { key: key(id) } }),
	cancel_payment: ({ id }, key) => ({ cancelPaymentRequestMessage: { key: key(id) } }),
}

/** The whole message for a kind that Baileys has no words of its own for. */
export function raw({ kind, ...how }, known) {
	return RAW[kind]?.(how, id => known.get(id).key)
}

/** What Baileys is to send for a kind. */
export function content({ kind, ...how }, known) {
	return KINDS[kind](how, id => known.get(id).key)
}

const poll = message =>
	message?.pollCreationMessage ?? message?.pollCreationMessageV2 ?? message?.pollCreationMessageV3

const hash = name => createHash('sha256').update(name).digest('hex')

/** The names of the options that a vote is for. Baileys leaves it to its users to find poll and voter. */
function chosen(vote, key, { known, me }) {
	const asked = known.get(vote.pollCreationMessageKey.id)
	const [mine, theirs] = [[me.id, me.lid], [key.participant, key.participantAlt, key.remoteJid, key.remoteJidAlt]].map(
		names => names.filter(Boolean).map(jidNormalizedUser),
	)
	const [creators, voters] = asked.key.fromMe ? [mine, theirs] : [theirs, mine]
	for (const pollCreatorJid of creators) {
		for (const voterJid of key.fromMe ? mine : voters) {
			const context = {
				pollCreatorJid,
				pollMsgId: asked.key.id,
				pollEncKey: asked.message.messageContextInfo.messageSecret,
				voterJid,
			}
			try {
				const { selectedOptions } = decryptPollVote(vote.vote, context)
				const hashes = new Set(selectedOptions.map(one => Buffer.from(one).toString('hex')))
				const names = poll(asked.message).options.map(({ optionName }) => optionName)
				return names.filter(name => hashes.has(hash(name)))
			} catch {
				// Another pair of names.
			}
		}
	}
	return undefined
}

/** Tells what a message says that is no text. `context` has `known` messages by id, and `me`. */
export function tellContent(say, { key, message }, context) {
	const tell = (kind, fields) => say('content', { id: key.id, kind, from_me: key.fromMe, ...fields })
	const { locationMessage: place, contactMessage: card, pollUpdateMessage: vote } = message ?? {}
	const { requestPaymentMessage: request, declinePaymentRequestMessage: decline } = message ?? {}
	const { cancelPaymentRequestMessage: cancel } = message ?? {}
	const asked = poll(message)
	if (request) {
		tell('payment_request', {
			currency: request.currencyCodeIso4217,
			thousandths: Number(request.amount1000),
			note: request.noteMessage?.extendedTextMessage?.text,
			value: Number(request.amount?.value),
			divisor: request.amount?.offset,
		})
	} else if (decline) {
		tell('decline_payment', { about: decline.key.id })
	} else if (cancel) {
		tell('cancel_payment', { about: cancel.key.id })
	} else if (place) {
		tell('location', { latitude: place.degreesLatitude, longitude: place.degreesLongitude, name: place.name })
	} else if (card) {
		tell('contact', { name: card.displayName, vcard: card.vcard })
	} else if (asked) {
		tell('poll', { question: asked.name, options: asked.options.map(({ optionName }) => optionName) })
	} else if (vote) {
		tell('vote', { about: vote.pollCreationMessageKey.id, options: chosen(vote, key, context) })
	} else {
		tellFile(tell, { key, message })
	}
}

/** Tells what is done to messages. */
export function listenToChanges(socket, say) {
	socket.ev.on('messages.reaction', reactions => {
		for (const { key, reaction } of reactions) {
			say('content', { id: reaction.key.id, kind: 'reaction', about: key.id, emoji: reaction.text })
		}
	})
	socket.ev.on('messages.update', updates => {
		for (const { key, update } of updates) {
			const edited = update.message?.editedMessage?.message
			if (edited) {
				const text = edited.conversation || edited.extendedTextMessage?.text
				say('content', { kind: 'edit', about: key.id, text })
			}
			if (update.messageStubType === WAMessageStubType.REVOKE) {
				say('content', { kind: 'revoke', about: key.id, by: user(key.participant ?? key.remoteJid) })
			}
		}
	})
}
