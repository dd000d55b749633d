/* SPDX-License-Identifier: Apache-2.0 */
/* A connection's bytes under TLS: internal to core/http, [loop].
 *
 * The gate receives and sends by itself, and so it does here, with OpenSSL on
 * the connection's own non-blocking socket. The bufferevent that evhtp made lies
 * idle: libevent's own TLS would bring 4 KiB a call and could not be told to put
 * a body where it belongs. The gate's buffers hold plain text.
 *
 * A wire reports by dg_gate_run() (bytes came), dg_gate_drained() (the output fell to
 * its low mark) and dg_conn_doom() (the client left). */
#ifndef DG_CORE_HTTP_WIRE_H
#define DG_CORE_HTTP_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dg_conn;
struct dg_tls;
struct dg_wire;

/* Takes conn's socket over and waits for the handshake. -1 without memory: then
 * conn is as before. tls is shared. */
int dg_wire_attach(struct dg_conn *conn, struct dg_tls *tls);
/* Before conn's socket is closed; NULL is fine. */
void dg_wire_free(struct dg_wire *wire);

bool dg_wire_ready(const struct dg_wire *wire); /* the handshake is done */

/* Up to len bytes of payload, to memory or (NULL) nowhere. 0: none now; an end or
 * an error dooms the conn. */
size_t dg_wire_receive(struct dg_wire *wire, void *memory, size_t len);
/* The same to the end of the gate's input. */
size_t dg_wire_pull(struct dg_wire *wire, size_t len);

/* Encrypts and sends what the gate's output holds, as far as the socket takes it;
 * waits for it with the rest. */
void dg_wire_flush(struct dg_wire *wire);

/* Whether bytes may come. What lies decrypted already comes on the next turn. */
void dg_wire_set_reading(struct dg_wire *wire, bool reading);
/* Calls the gate on the loop's next turn as if bytes had come. */
void dg_wire_trigger(struct dg_wire *wire);

/* Tells the client that no more comes; from here on what it sends is thrown away
 * as it is. */
void dg_wire_end_output(struct dg_wire *wire);

/* Bytes given to the socket so far, as they went there. */
uint64_t dg_wire_sent_bytes(const struct dg_wire *wire);

#endif
