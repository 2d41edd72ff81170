"""Django's pages for users and groups, with a required reason in the audit. Users are deactivated, never deleted."""

import json
from functools import partial
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.forms import AdminPasswordChangeForm as OwnPasswordForm
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.forms import AdminPasswordChangeForm, AdminUserCreationForm, UserChangeForm
from django.contrib.auth.models import Group, User
from django.contrib.auth.views import PasswordChangeView
from django.db import models, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import reverse_lazy

from coupons import audit
from coupons.admin.forms import ReasonField, VisibleTextField
from coupons.admin.pages import AuditedHistory, actor_of, show_as_stored
from coupons.auth.revocations import remember_rights, rights_of

admin.site.unregister(User)
admin.site.unregister(Group)


# Django's classes are generic for the type checker alone, hence the ignored errors.
class _NewUserForm(AdminUserCreationForm):
    reason = ReasonField()


class _UserForm(UserChangeForm):  # type: ignore[type-arg]
    reason = ReasonField()


class _PasswordForm(AdminPasswordChangeForm):  # type: ignore[type-arg]
    reason = ReasonField()


class _GroupForm(forms.ModelForm):  # type: ignore[type-arg]
    reason = ReasonField()


class _Audited(AuditedHistory):
    """Django calls `log_addition` and `log_change` inside the transaction of the change."""

    formfield_overrides: Any = {models.CharField: {"form_class": VisibleTextField}}

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        sentence = LogEntry(change_message=json.dumps(message)).get_change_message()
        what = f"{sentence} {_describe_rights(obj)}".strip()
        audit.record(actor=actor_of(request), row=obj, what=what, reason=request.POST["reason"])
        if isinstance(obj, User):
            transaction.on_commit(partial(remember_rights, obj))

    log_addition = log_change

    def render_change_form(
        self: Any, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        show_as_stored(context)
        return cast("HttpResponse", super().render_change_form(request, context, *args, **kwargs))  # type: ignore[misc]


@admin.register(User)
class CouponUserAdmin(_Audited, UserAdmin):  # type: ignore[type-arg]
    form = _UserForm
    add_form = _NewUserForm
    change_password_form = _PasswordForm
    change_user_password_template = "admin/coupons/change_password.html"  # noqa: S105
    add_fieldsets = (*UserAdmin.add_fieldsets, (None, {"fields": ("reason",)}))

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or not self.has_change_permission(request, obj):
            return fieldsets
        return [*fieldsets, (None, {"fields": ("reason",)})]

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        user: User = form.instance
        if not user.is_staff and (user.groups.exists() or user.user_permissions.exists() or user.is_superuser):
            messages.warning(
                request, f"{user} cannot log in here: tick “Staff status”, whatever the groups and rights."
            )

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002
        with transaction.atomic():  # Django opens one for its other user pages, but not for this one
            return super().user_change_password(request, id, form_url)


@admin.register(Group)
class CouponGroupAdmin(_Audited, GroupAdmin):
    form = _GroupForm

    def get_fieldsets(self, request: HttpRequest, obj: Group | None = None) -> Any:
        fields = ["name", "permissions"]
        return [(None, {"fields": [*fields, "reason"] if self.has_change_permission(request, obj) else fields})]


class OwnPasswordView(PasswordChangeView):
    """Changes the user's own password. The audit keeps who and when, without a reason."""

    form_class = OwnPasswordForm
    template_name = "registration/password_change_form.html"
    success_url = reverse_lazy("admin:password_change_done")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {**super().get_context_data(**kwargs), **admin.site.each_context(self.request)}

    def form_valid(self, form: Any) -> HttpResponse:
        with transaction.atomic():
            audit.record(actor=actor_of(self.request), row=form.user, what="Changed the own password", reason="")
            return super().form_valid(form)


def _describe_rights(row: models.Model) -> str:
    """Describes the permissions after the change: Django's message names only the changed fields."""
    if isinstance(row, Group):
        return f"May now: {', '.join(sorted(row.permissions.values_list('codename', flat=True))) or 'nothing'}."
    if not isinstance(row, User):
        return ""
    return f"Has now: {', '.join(rights_of(row)) or 'nothing'}."
