// Puts an unmodified Baileys on the sandbox; see ../README.md for what it says and hears.

import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'

import {
	DisconnectReason,
	generateMessageIDV2,
	makeWASocket,
	proto,
	useMultiFileAuthState,
	WA_CERT_DETAILS,
} from '@whiskeysockets/baileys'
import pino from 'pino'

import { listen as listenToCalls, reject } from './calls.mjs'
import { redirected } from './files.mjs'
import { act, listen } from './groups.mjs'
import { content, listenToChanges, raw, tellContent } from './kinds.mjs'
import { listenToMarks, mark } from './marks.mjs'

const { values: options } = parseArgs({
	options: {
		address: { type: 'string' },
		root: { type: 'string' },
		store: { type: 'string' },
	},
})

// Today Baileys computes the signatures of the chain and ignores the outcome; when it begins to look, ours will do.
WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(options.root, 'hex')

// What Baileys is built on talks to the console, and stdout is ours.
for (const level of ['debug', 'info', 'log']) {
	console[level] = console.error
}

const logger = pino({ level: 'debug' }, pino.destination(2))
const fetchAgent = redirected(options.address)
const { state, saveCreds } = await useMultiFileAuthState(options.store)
let socket
let leaving = false

const say = (event, fields) => process.stdout.write(JSON.stringify({ event, ...fields }) + '\n')

/** The part of a JID that names the user. */
const user = jid => jid?.split('@')[0].split(':')[0]

const isNumber = jid => jid?.endsWith('@s.whatsapp.net')

const isGroup = jid => jid?.endsWith('@g.us')

/** What was sent, for peers that could not read it and ask again. */
const sent = new Map()

function connect() {
	socket = makeWASocket({
		auth: state,
		fetchAgent,
		getMessage: async key => sent.get(key.id),
		logger,
		waWebSocketUrl: `ws://${options.address}/ws/chat`,
	})
	socket.ev.on('creds.update', saveCreds)
	socket.ev.on('connection.update', update)
	socket.ev.on('messages.upsert', ({ messages }) => messages.forEach(received))
	socket.ev.on('messages.update', updates => updates.forEach(changed))
	socket.ev.on('message-receipt.update', receipts => receipts.forEach(confirmed))
	listen(socket, say)
	listenToChanges(socket, say)
	listenToCalls(socket, say, user, isNumber)
	listenToMarks(socket, say)
}

function update({ connection, lastDisconnect, qr }) {
	if (qr) {
		say('qr', { code: qr })
	}
	if (connection === 'open') {
		say('open', { number: user(state.creds.me.id) })
	}
	if (connection !== 'close' || leaving) {
		return
	}
	const reason = lastDisconnect?.error?.output?.statusCode
	if (reason === DisconnectReason.loggedOut) {
		say('ended', { reason })
		return
	}
	// The restart is a part of pairing.
	if (reason !== DisconnectReason.restartRequired) {
		say('closed', { reason })
	}
	setTimeout(connect, 100)
}

function received({ key, message, status, userReceipt = [] }) {
	received.last.set(key.id, { key, message })
	const text = message?.conversation || message?.extendedTextMessage?.text
	if (!text) {
		tellContent(say, { key, message }, { known: received.last, me: state.creds.me })
		return
	}
	const names = [key.participant, key.participantAlt, key.remoteJid, key.remoteJidAlt]
	const from = key.fromMe ? state.creds.me.id : names.find(isNumber)
	const context = message.extendedTextMessage?.contextInfo
	say('message', {
		id: key.id,
		from: user(from),
		text,
		from_me: key.fromMe,
		group: isGroup(key.remoteJid) ? key.remoteJid : undefined,
		mentions: context?.mentionedJid ?? [],
		quotes: context?.stanzaId,
	})
	// What happened to a text before Baileys tells of it comes with it.
	changed({ key, update: { status } })
	userReceipt.forEach(receipt => confirmed({ key, receipt }))
}

/** What can be quoted, reacted to, voted on. */
received.last = new Map()

const KINDS = new Map([
	[proto.WebMessageInfo.Status.DELIVERY_ACK, 'delivered'],
	[proto.WebMessageInfo.Status.READ, 'read'],
])

function changed({ key, update }) {
	const kind = KINDS.get(update.status)
	if (key.fromMe && kind) {
		say('receipt', { id: key.id, kind })
	}
}

/** In a group the receipt of each member comes by itself. */
function confirmed({ key, receipt }) {
	if (key.fromMe) {
		const kind = receipt.readTimestamp ? 'read' : 'delivered'
		say('receipt', { id: key.id, kind })
	}
}

async function send({ to, text, mentions, quotes }) {
	try {
		const chat = isGroup(to) ? to : `${to}@s.whatsapp.net`
		const quoted = received.last.get(quotes)
		const { key, message } = await socket.sendMessage(chat, { text, mentions }, { quoted })
		sent.set(key.id, message)
		say('sent', { id: key.id, text })
	} catch (error) {
		say('failed', { text, error: String(error) })
	}
}

/** Anything but a text. */
async function express({ to, ...what }) {
	try {
		const chat = isGroup(to) ? to : `${to}@s.whatsapp.net`
		const whole = raw(what, received.last)
		if (whole) {
			const id = generateMessageIDV2(state.creds.me.id)
			received.last.set(id, { key: { remoteJid: chat, fromMe: true, id }, message: whole })
			sent.set(id, whole)
			await socket.relayMessage(chat, whole, { messageId: id })
			say('sent', { id, kind: what.kind })
			return
		}
		const { key, message } = await socket.sendMessage(chat, content(what, received.last))
		sent.set(key.id, message)
		say('sent', { id: key.id, kind: what.kind })
	} catch (error) {
		say('failed', { kind: what.kind, error: String(error) })
	}
}

async function change(command, act) {
	try {
		say('done', { do: command.do, ...(await act(socket, command)) })
	} catch (error) {
		const code = error.data?.attrs?.code ?? error.data ?? error.output?.statusCode
		say('refused', { do: command.do, code: Number(code), error: String(error) })
	}
}

connect()
for await (const line of createInterface({ input: process.stdin })) {
	const command = JSON.parse(line)
	if (command.send) {
		await send(command.send)
	}
	if (command.say) {
		await express(command.say)
	}
	if (command.group) {
		await change(command.group, act)
	}
	if (command.call) {
		await change(command.call, reject)
	}
	if (command.mark) {
		await change(command.mark, (socket, how) => mark(socket, how, received.last))
	}
}
leaving = true
socket.end(undefined)
process.exit(0)
