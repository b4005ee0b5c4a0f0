//! One client's connection: from its first packet to where bytes begin to move, and the
//! line in the log that says how it ended.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::OwnedSemaphorePermit,
    time::{sleep, timeout},
};

use super::{
    admission::{ConnectionPermit, ConnectionRequest, Refusal},
    engine::Shared,
    handshake::{self, Arrival, Welcome},
    listener::Caller,
    session::{Session, SessionConfig},
    shuttle::Shuttle,
    stream::Stream,
    upstream::UpstreamError,
};
use crate::{
    journal::{ConnectionEnd, EndReason, Record},
    wire::{self, TransactionStatus},
};

/// How long a client may take over its start-up.
const STARTUP_PATIENCE: Duration = Duration::from_secs(15);
/// How long the last bytes may take to reach a peer.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(3);

/// Serves one client to its end. `waiting` is its place among those that haven't said who
/// they are; it is given back as soon as they have.
pub(super) async fn serve(
    shared: Arc<Shared>,
    caller: Caller,
    waiting: Option<OwnedSemaphorePermit>,
) {
    let Caller { mut stream, transport, trusted } = caller;
    let mut ending = shared.ending();
    let arrival = tokio::select! {
        biased;
        ended = ending.wait() => Err(handshake::ended(&ended)),
        arrival = handshake::receive(&mut stream, &shared.door, trusted) => Ok(arrival),
        () = sleep(STARTUP_PATIENCE) => Err(handshake::too_slow(STARTUP_PATIENCE)),
    };
    drop(waiting);
    let welcome = match arrival {
        Ok(Ok(Arrival::Session(welcome))) => welcome,
        Ok(Ok(Arrival::Cancel { process, secret })) => {
            return shared.cancel_keys.request(process, &secret).await;
        }
        Ok(Ok(Arrival::Gone)) => return,
        Ok(Ok(Arrival::DirectTls)) => {
            return tracing::debug!(transport, "TLS without a question was refused");
        }
        Ok(Err(error)) => return tracing::debug!(%error, transport, "start-up failed"),
        Err(refusal) => {
            tracing::debug!(reason = refusal.message, transport, "start-up was given up");
            let _ = timeout(FAREWELL_PATIENCE, handshake::refuse(&mut stream, &refusal)).await;
            return;
        }
    };
    let request = ConnectionRequest { transport, parameters: welcome.sent.clone() };
    let permit = match shared.admission.connect(request).await {
        Ok(permit) => permit,
        Err(refusal) => {
            handshake::refuse_after(welcome.greeting, &mut stream, &refusal).await;
            return;
        }
    };
    let connection = permit.connection();
    let reason = match open(&shared, stream, welcome, permit).await {
        Ok(shuttle) => shuttle.run().await,
        Err(reason) => reason,
    };
    let end = Record::Disconnect(ConnectionEnd { connection, reason });
    if let Err(error) = shared.admission.record(&end) {
        shared.end(EndReason::Failed, &error.to_string());
    }
}

/// Connects upstream and tells the client that its session is ready.
async fn open(
    shared: &Arc<Shared>,
    mut client: Stream,
    welcome: Welcome,
    permit: ConnectionPermit,
) -> Result<Shuttle, String> {
    let mut ending = shared.ending();
    let connected = tokio::select! {
        biased;
        ended = ending.wait() => Err(handshake::ended(&ended)),
        connected = shared.upstream.connect(&permit, &welcome.upstream) => {
            connected.map_err(|error| upstream_refusal(&error))
        }
    };
    let mut upstream = match connected {
        Ok(upstream) => upstream,
        Err(refusal) => {
            let told = handshake::refuse_after(welcome.greeting, &mut client, &refusal);
            let _ = timeout(FAREWELL_PATIENCE, told).await;
            return Err(refusal.message);
        }
    };
    if shared.upstream.has_several_hosts() {
        let (connection, host) = (permit.connection(), upstream.place.to_string());
        if let Err(error) = shared.admission.record(&Record::Host { connection, host }) {
            shared.end(EndReason::Failed, &error.to_string());
            let refusal = handshake::ended(&ending.wait().await);
            let told = handshake::refuse_after(welcome.greeting, &mut client, &refusal);
            let _ = timeout(FAREWELL_PATIENCE, told).await;
            return Err(refusal.message);
        }
    }
    let server = upstream.key.as_ref().map(|key| key.process);
    let issued = shared.cancel_keys.issue(welcome.secret_length, server);
    let mut session = Session::new(SessionConfig {
        connection: permit.connection(),
        masks: shared.masks,
        substitute: format!("pgate_{}", super::random_text()),
    });
    let out = session.to_client();
    out.extend_from_slice(&welcome.greeting);
    for (name, value) in &upstream.parameters {
        wire::parameter_status(name, value, out);
    }
    wire::backend_key_data(&issued.key, out);
    wire::ready_for_query(TransactionStatus::Idle, out);
    let early = upstream.take_input();
    let started = Instant::now();
    session.server_bytes(&early, Duration::ZERO);
    session.client_bytes(&welcome.early);
    Ok(Shuttle::new(shared, permit, session, client, upstream, issued, started))
}

fn upstream_refusal(error: &UpstreamError) -> Refusal {
    let sqlstate = match error {
        UpstreamError::Refused { sqlstate, .. } if sqlstate == "53300" => "53300",
        _ => "08006",
    };
    Refusal {
        statement: 0,
        sqlstate,
        message: format!("pgate could not open the database session: {error}"),
        detail: String::new(),
        hint: String::new(),
        position: None,
    }
}
