//! The standard gRPC health service: this process serves while it answers at all.

use proto::error::{Code, Status};
use proto::grpc::health::v1::health_check_response::ServingStatus;
use proto::grpc::health::v1::{HealthCheckRequest, HealthCheckResponse, HealthListResponse};
use proto::prost::Message;

use super::port::{Call, Handler, Port, Turn, decode};

fn serving(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status as i32 }
}

pub(super) fn check(turn: &mut Turn<'_>, call: &Call) -> Result<(), Status> {
    let request: HealthCheckRequest = decode(&call.body)?;
    if !request.service.is_empty() {
        return Err(Status::new(Code::NotFound, "unknown service"));
    }
    let response = serving(ServingStatus::Serving);
    turn.outlet.reply(call.to, response.encode_to_vec().into());
    Ok(())
}

pub(super) fn list(turn: &mut Turn<'_>, call: &Call) -> Result<(), Status> {
    let statuses = [(String::new(), serving(ServingStatus::Serving))].into();
    turn.outlet.reply(call.to, HealthListResponse { statuses }.encode_to_vec().into());
    Ok(())
}

/// Tells the status once; it does not change while the process lives.
pub(super) fn watch(port: &mut Port, turn: &mut Turn<'_>, call: &Call) -> Result<(), Status> {
    let request: HealthCheckRequest = decode(&call.body)?;
    let known = request.service.is_empty();
    let status = if known { ServingStatus::Serving } else { ServingStatus::ServiceUnknown };
    turn.outlet.message(call.to, serving(status).encode_to_vec().into());
    port.handlers.insert(call.to, Handler::Health);
    Ok(())
}
