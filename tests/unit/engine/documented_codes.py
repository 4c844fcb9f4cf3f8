"""The error codes that S3 and its compatibles document, with their statuses. Not taken from the engine's map."""

from __future__ import annotations

AWS = """
AccessControlListNotSupported 400
AccessDenied 403
AccessPointAlreadyOwnedByYou 409
AccountProblem 403
AllAccessDisabled 403
AmbiguousGrantByEmailAddress 400
AuthorizationHeaderMalformed 400
AuthorizationQueryParametersError 400
BadDigest 400
BucketAlreadyExists 409
BucketAlreadyOwnedByYou 409
BucketHasAccessPointsAttached 400
BucketNotEmpty 409
ClientTokenConflict 409
ConditionalRequestConflict 409
ConnectionClosedByRequester 400
CredentialsNotSupported 400
CrossLocationLoggingProhibited 403
DeviceNotActiveError 400
EndpointNotFound 400
EntityTooLarge 400
EntityTooSmall 400
ExpiredToken 400
IllegalLocationConstraintException 400
IllegalVersioningConfigurationException 400
IncompleteBody 400
IncorrectEndpoint 400
IncorrectNumberOfFilesInPostRequest 400
InlineDataTooLarge 400
InternalError 500
InvalidAccessKeyId 403
InvalidAccessPoint 400
InvalidAccessPointAliasError 400
InvalidAddressingHeader 400
InvalidArgument 400
InvalidBucketAclWithObjectOwnership 400
InvalidBucketName 400
InvalidBucketOwnerAWSAccountID 400
InvalidBucketState 409
InvalidDigest 400
InvalidEncryptionAlgorithmError 400
InvalidHostHeader 400
InvalidHttpMethod 400
InvalidLocationConstraint 400
InvalidObjectState 403
InvalidPart 400
InvalidPartOrder 400
InvalidPayer 403
InvalidPolicyDocument 400
InvalidRange 416
InvalidRegion 403
InvalidRequest 400
InvalidSessionException 400
InvalidSignature 400
InvalidSecurity 403
InvalidSOAPRequest 400
InvalidStorageClass 400
InvalidTag 400
InvalidTargetBucketForLogging 400
InvalidToken 400
InvalidURI 400
KeyTooLongError 400
KMS.DisabledException 400
KMS.InvalidKeyUsageException 400
KMS.KMSInvalidStateException 400
KMS.NotFoundException 400
MalformedACLError 400
MalformedPOSTRequest 400
MalformedPolicy 400
MalformedXML 400
MaxMessageLengthExceeded 400
MaxPostPreDataLengthExceededError 400
MetadataTooLarge 400
MethodNotAllowed 405
MissingAttachment 400
MissingAuthenticationToken 403
MissingContentLength 411
MissingRequestBodyError 400
MissingSecurityElement 400
MissingSecurityHeader 400
NoLoggingStatusForKey 400
NoSuchAccessPoint 404
NoSuchAsyncRequest 404
NoSuchBucket 404
NoSuchBucketPolicy 404
NoSuchCORSConfiguration 404
NoSuchKey 404
NoSuchLifecycleConfiguration 404
NoSuchMultiRegionAccessPoint 404
NoSuchObjectLockConfiguration 404
NoSuchResource 404
NoSuchTagSet 404
NoSuchUpload 404
NoSuchVersion 404
NoSuchWebsiteConfiguration 404
NotDeviceOwnerError 400
NotImplemented 501
NotModified 304
NotSignedUp 403
ObjectLockConfigurationNotFoundError 404
OperationAborted 409
OwnershipControlsNotFoundError 404
PermanentRedirect 301
PermanentRedirectControlError 301
PreconditionFailed 412
Redirect 307
ReplicationConfigurationNotFoundError 404
RequestHeaderSectionTooLarge 400
RequestIsNotMultiPartContent 400
RequestTimeout 400
RequestTimeTooSkewed 403
RequestTorrentOfBucketError 400
ResponseInterrupted 400
RestoreAlreadyInProgress 409
ServerSideEncryptionConfigurationNotFoundError 404
ServiceUnavailable 503
SignatureDoesNotMatch 403
SlowDown 503
TagPolicyException 400
TemporaryRedirect 307
TokenCodeInvalidError 400
TokenRefreshRequired 400
TooManyAccessPoints 400
TooManyBuckets 400
UnauthorizedAccessError 403
UnexpectedContent 400
UnexpectedIPError 403
UnresolvableGrantByEmailAddress 400
UnsupportedArgument 400
UnsupportedSignature 400
UserKeyMustBeSpecified 400
XAmzContentSHA256Mismatch 400
XAmzContentChecksumMismatch 400
"""
CEPH = """
BusyResharding 503
Locked 423
NoSuchKey 404
NoSuchVersion 404
QuotaExceeded 403
RequestTimeTooSkewed 403
SlowDown 503
UnknownError 500
UserSuspended 403
"""
LOCALSTACK = """
InternalError 500
InternalFailure 500
NotImplemented 501
"""
MINIO = """
ClientDisconnected 499
InsecureSSECustomerRequest 400
InvalidObjectName 400
InvalidSSECustomerAlgorithm 400
KMSKeyNotFoundException 400
KMSNotConfigured 501
SSEEncryptedObject 400
SlowDownRead 503
SlowDownWrite 503
XMinioAdminBucketQuotaExceeded 400
XMinioBackendDown 503
XMinioInsecureClientRequest 400
XMinioInvalidObjectName 400
XMinioObjectExistsAsDirectory 409
XMinioParentIsObject 400
XMinioServerNotInitialized 503
XMinioStorageFull 507
"""
R2 = """
ClientDisconnect 400
InvalidObjectName 400
InvalidRegionName 400
NotImplemented 501
ObjectLockedByBucketPolicy 403
TooManyRequests 429
Unauthorized 401
"""


def codes(text: str) -> list[tuple[str, int]]:
    """The table's rows."""
    return [(code, int(status)) for code, status in (line.split() for line in text.split("\n") if line)]


DOCUMENTED = {
    name: codes(text)
    for name, text in {"aws": AWS, "ceph": CEPH, "localstack": LOCALSTACK, "minio": MINIO, "r2": R2}.items()
}
